"""How `inferway explain` shows decisions on a terminal.

Model: pure functions from the admin API's JSON to tables and lines of rich. Costs in seconds are
shown in milliseconds; what is not known is a dash, never a zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferway.cli.conditions import Document

NOTHING: Final = "-"
ENDS: Final = {
    "complete": "complete",
    "server_failed": "broken off by the server",
    "client_left": "the client left",
    "answered_locally": "answered by the gateway itself",
}
TIERS: Final = ("loaded", "room", "waits", "full")


def decisions(items: list[Document]) -> Table:
    """One line each."""
    rows = _table("AGE", "REQUEST", "POOL", "MODEL", "OUTCOME", "ENDPOINT", "WHY", "STATUS", "TOOK")
    for item in items:
        ended = item["ended"]
        rows.add_row(
            _seconds(item["age_s"]),
            Text(item["request_id"]),
            item["pool"],
            Text(item["served_model"]),
            Text(item["outcome"], style="" if item["outcome"] == "picked" else "red"),
            item["winner"] or NOTHING,
            Text(item["reason"]),
            NOTHING if ended is None else str(ended["status"]),
            NOTHING if ended is None else _seconds(ended["duration_s"]),
        )
    return rows


def decision(item: Document) -> Iterator[Text | Table]:
    """One decision in full."""
    yield Text(f"request {item['request_id']}, {_seconds(item['age_s'])} ago ({item['at']})")
    yield Text("; ".join(_facts(item)))
    yield Text("")
    yield from _what_came(item)
    if item["candidates"]:
        yield Text("")
        yield candidates(item)
        hidden = item["endpoints_total"] - len(item["candidates"])
        if hidden:
            yield Text(f"and {hidden} more endpoints that are not shown")
    if item["removed"]:
        counts = (f"{count} {by}" for by, count in item["removed"].items())
        yield Text(f"removed: {', '.join(counts)}")


def _facts(item: Document) -> Iterator[str]:
    renamed = item["model"] != item["served_model"]
    model = item["served_model"] or "none named"
    yield f"pool {item['pool']}"
    yield f"model {model}" + (f" (asked for: {item['model']})" if renamed else "")
    if item["policy"]:
        yield f"policy {item['policy']}"
    if item["priority"] is not None:
        objective = f" (objective {item['objective']})" if item["objective"] else ""
        yield f"priority {item['priority']}{objective}"
    if item["prompt_tokens"] is not None:
        yield f"about {item['prompt_tokens']:.0f} prompt tokens"
        yield f"{item['output_tokens']:.0f} more expected"
    if item["repeated"]:
        yield "asked again after the picker was away"


def _what_came(item: Document) -> Iterator[Text]:
    waited = f"after {_seconds(item['waited_s'])} in the queue" if item["waited_s"] else ""
    if not item["winner"]:
        left = f"{item['candidates_total']} of {item['endpoints_total']} endpoints were left"
        told = (item["outcome"], waited, left if item["policy"] else "")
        yield Text(f"not sent: {'; '.join(filter(None, told))}")
        return
    why = ", ".join(filter(None, (item["reason"], waited)))
    yield Text.assemble(("sent to ", ""), (item["winner"], "bold"), f": {why}")
    if item["runner_up"]:
        margin = _cost(item["margin"], item["cost_unit"])
        yield Text(f"  next: {item['runner_up']}, dearer by {margin}")
    yield Text(f"  {_ending(item['ended'])}")


def _ending(ended: Document | None) -> str:
    if ended is None:
        return "its answer has not ended"
    how = str(ENDS.get(ended["how"], ended["how"]))
    parts = [f"{ended['status']} from {ended['endpoint'] or 'no server'}", how]
    if ended["fault"]:
        parts.append(ended["fault"].replace("_", " "))
    if ended["attempts"] > 1:
        parts.append(f"{ended['attempts']} servers tried")
    if ended["ttft_s"] is not None:
        parts.append(f"first byte after {_seconds(ended['ttft_s'])}")
    parts.append(f"{_seconds(ended['duration_s'])} in all")
    if ended["prompt_tokens"] is not None:
        parts.append(
            f"{ended['prompt_tokens']} prompt tokens ({ended['cached_tokens']} cached), "
            f"{ended['completion_tokens']} in the answer"
        )
    return ", ".join(parts)


def candidates(item: Document) -> Table:
    """Every endpoint that is told: how it was rated, what was known of it, how old that was."""
    terms = item["candidates"][0]["terms"]
    names = [term["name"] for term in terms] if len(terms) > 1 else []
    parts = list(terms[0]["parts"]) if len(terms) == 1 else []
    adapters = any(one["adapter_tier"] is not None for one in item["candidates"])
    titles = ["#", "ENDPOINT", "COST", *names, *parts, "CACHED", "IN FLIGHT", "PENDING", "CONTEXT"]
    titles += ["WAITING", "RUNNING", "KV", *(["ADAPTER"] if adapters else []), "SCRAPED"]
    rows = _table(*titles)
    for one in item["candidates"]:
        tier = one["adapter_tier"]
        removed = one["removed_by"]
        rows.add_row(
            str(one["place"] or ""),
            one["address"],
            Text(removed, style="red") if removed else _cost(one["cost"], item["cost_unit"]),
            *_terms(one["terms"], len(names), item["cost_unit"]),
            *_parts(one["terms"], parts, item["cost_unit"]),
            f"{one['matched_tokens']:.0f}",
            str(one["in_flight"]),
            str(one["pending_tokens"]),
            str(one["context_tokens"]),
            _known(one["waiting"]),
            _known(one["running"]),
            NOTHING if one["kv_usage_ratio"] is None else f"{one['kv_usage_ratio']:.0%}",
            *([NOTHING if tier is None else TIERS[tier]] if adapters else []),
            "never" if one["metrics_age_s"] is None else f"{_seconds(one['metrics_age_s'])} ago",
            style="dim" if removed else "",
        )
    return rows


def _terms(terms: list[Document], count: int, unit: str) -> Iterator[str]:
    """Raw value, and what it adds to the cost."""
    for term in terms[:count]:
        if term["raw"] is None:
            yield NOTHING
        elif term["raw"] == term["cost"]:
            yield _cost(term["cost"], unit)
        else:
            yield f"{term['raw']:.3g} → {_cost(term['cost'], unit)}"
    yield from [NOTHING] * (count - len(terms))


def _parts(terms: list[Document], names: list[str], unit: str) -> Iterator[str]:
    """Of the only term, where it tells."""
    found = terms[0]["parts"] if terms else {}
    for name in names:
        yield _cost(found.get(name), unit)


def _cost(value: float | None, unit: str) -> str:
    if value is None:
        return NOTHING
    if unit == "s":
        return f"{value * 1000:.4g} ms"
    return f"{value:.4g}{f' {unit}' if unit else ''}"


def _known(value: float | None) -> str:
    return NOTHING if value is None else f"{value:g}"


def _seconds(value: float) -> str:
    if value < 1.0:
        return f"{value * 1000:.3g} ms"
    return f"{value:.2f} s" if value < 100.0 else f"{value:.0f} s"


def _table(*titles: str) -> Table:
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        rows.add_column(title, overflow="fold")
    return rows
