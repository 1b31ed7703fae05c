"""The measured dictionary as tables."""

from __future__ import annotations

from typing import Any


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def render(result: dict[str, Any]) -> str:
    text = f"# Conduct\n\nCommit {result['commit']}. "
    text += "A cell that is not what a client needs is marked **wrong**.\n"
    matrix = result["matrix"]
    if matrix:
        gateways = list(dict.fromkeys(gateway for cells in matrix.values() for gateway in cells))
        text += "\n" + row(["one of two servers", *gateways]) + row(["---"] * (len(gateways) + 1))
        for case, cells in matrix.items():
            shown = [_cell(cells.get(gateway)) for gateway in gateways]
            text += row([case, *shown])
    if result["picker"]:
        text += "\n## Faults of the picker\n\n"
        text += row(
            [
                *("picker", "pool", "open streams that ended well", "short requests meanwhile"),
                *("p50 before", "p50", "p99", "max, ms"),
            ]
        )
        text += row(["---"] * 8)
        for one in result["picker"]:
            times = [f"{one[key]:.0f}" for key in ("before_p50_ms", "p50_ms", "p99_ms", "max_ms")]
            streams = f"{one['streams_complete']} of {one['streams']}"
            text += row([one["fault"], one["mode"], streams, one["replies"], *times])
    return text


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "-"
    return cell["seen"] if cell["right"] else f"**wrong**: {cell['seen']}"
