"""`inferway rollout status|history`: what control says of roll-outs, for people and programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from inferway.cli.conditions import Document
from inferway.cli.get import ADMIN_URL, AdminOption, Format, fetch, not_found

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

OVER = {"Completed": 0, "RolledBack": 1}
STYLES = {"Completed": "green", "RolledBack": "red", "Paused": "yellow", "Progressing": "cyan"}
BAR_CELLS = 40
REFRESH_S = 1.0

NamespaceFilter = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Only this namespace.", show_default=False)
]


def status(
    name: Annotated[
        str | None, typer.Argument(help="One Rollout; all when left out.", show_default=False)
    ] = None,
    output: Annotated[Format, typer.Option("-o", "--output", help="How to print.")] = Format.TABLE,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", "-w", help="Until it is over; exit 0 when completed, 1 when rolled back."
        ),
    ] = False,
    namespace: NamespaceFilter = None,
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Show how far roll-outs are and the numbers they decide by.

    Examples: inferway rollout status · inferway rollout status llm-new --watch
    """
    from rich.console import Console

    if watch:
        if name is None or output is not Format.TABLE:
            raise typer.BadParameter("--watch needs one NAME and the table")
        raise typer.Exit(_follow(name, namespace, admin))
    items = _fetch(name, namespace, admin)
    if output is Format.JSON:
        shown = items[0] if name is not None else {"items": items}
        typer.echo(json.dumps(shown, indent=2))
    elif output is Format.YAML:
        import yaml

        typer.echo(yaml.safe_dump_all(items, sort_keys=False), nl=False)
    elif name is not None:
        Console().print(details(items[0]))
    elif not items:
        typer.echo("no roll-outs found", err=True)
    else:
        Console().print(overview(items))


def history(
    name: Annotated[str, typer.Argument(help="Of the Rollout.")],
    namespace: NamespaceFilter = None,
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Show what a roll-out did, when and why.

    Example: inferway rollout history llm-new
    """
    from rich.console import Console
    from rich.table import Table

    (item,) = _fetch(name, namespace, admin)[:1]
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TIME", "ATTEMPT", "EVENT", "WEIGHTS", "WHY"):
        rows.add_column(title, overflow="fold")
    for entry in item["status"].get("history", []):
        rows.add_row(
            str(entry["time"]),
            str(entry["attempt"]),
            entry["event"],
            _weights(entry.get("weights")),
            entry["message"],
        )
    Console().print(rows)


def _fetch(name: str | None, namespace: str | None, admin: str) -> list[Document]:
    items: list[Document] = fetch(admin, "/admin/rollouts", {}).get("items", [])
    found = [
        item
        for item in items
        if name in (None, item["metadata"]["name"])
        and namespace in (None, item["metadata"]["namespace"])
    ]
    if name is not None and not found:
        raise typer.Exit(not_found("rollout", name))
    return found


def _follow(name: str, namespace: str | None, admin: str) -> int:
    import time

    from rich.live import Live

    with Live(refresh_per_second=4) as screen:
        while True:
            item = _fetch(name, namespace, admin)[0]
            screen.update(details(item))
            phase = item["status"].get("phase", "Pending")
            if phase in OVER and not item["status"].get("replaces"):
                return OVER[phase]
            time.sleep(REFRESH_S)


def overview(items: list[Document]) -> Table:
    """One line each."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAMESPACE", "NAME", "PHASE", "STEP", "WEIGHTS", "WHY"):
        rows.add_column(title, overflow="fold")
    for item in items:
        state = item["status"]
        phase = state.get("phase", "Pending")
        rows.add_row(
            item["metadata"]["namespace"],
            item["metadata"]["name"],
            Text(phase, style=STYLES.get(phase, "")),
            f"{state.get('step', 0)}/{len(item['spec']['steps'])}",
            _weights(state.get("weights")),
            _why(item),
        )
    return rows


def details(item: Document) -> RenderableType:
    """Everything about one: a bar, the clock of the step, every gate with its numbers."""
    from rich.console import Group
    from rich.text import Text

    spec, state, live = item["spec"], item["status"], item["live"]
    phase = state.get("phase", "Pending")
    meta = item["metadata"]
    head = Text(f"{meta['namespace']}/{meta['name']}  ")
    head.append(phase, style=STYLES.get(phase, ""))
    target = spec["targetRef"]
    lines: list[RenderableType] = [
        head,
        Text(f"{target['kind']} {target['name']}: {spec['from']} → {spec['to']}"),
        Text(f"{bar(item)}  weights {_weights(state.get('weights'))}"),
        Text(f"steps: {', '.join(str(step['weight']) for step in spec['steps'])}; {clock(item)}"),
    ]
    for name, counts in live.get("samples", {}).items():
        lines.append(
            Text(
                f"{name}: {counts['served']} served, {counts['errors']} errors, "
                f"{counts['shed']} shed"
            )
        )
    for gate in live.get("gates", []):
        style = {"Pass": "green", "Breach": "red"}.get(gate["outcome"], "yellow")
        mark = Text(f"  {gate['outcome']:<13} ", style=style)
        lines.append(mark.append(gate["text"], style="default"))
    lines.append(Text(_why(item)))
    return Group(*lines)


def bar(item: Document) -> str:
    """The share of the new version; a tick where a step ends."""
    weights = item["status"].get("weights") or {"old": 1, "new": 0}
    share = weights.get("new", 0) / ((weights.get("old", 0) + weights.get("new", 0)) or 1)
    filled = round(share * BAR_CELLS)
    cells = ["█"] * filled + ["░"] * (BAR_CELLS - filled)
    for step in item["spec"]["steps"]:
        place = round(step["weight"] / 100 * BAR_CELLS)
        if filled < place < BAR_CELLS:
            cells[place] = "┊"
    return f"{''.join(cells)} {share * 100:.0f}%"


def clock(item: Document) -> str:
    """Where a step is in time."""
    live, state = item["live"], item["status"]
    if "interval_s" not in live:
        return "not in a step"
    if "elapsed_s" not in live:
        return f"step {state['step']} waits for its weights to be in force"
    return (
        f"step {state['step']} for {live['elapsed_s']:.0f} s, at least {live['interval_s']:g} s, "
        f"at most {live['interval_max_s']:g} s"
    )


def _why(item: Document) -> str:
    live: Document = item["live"]
    found = live.get("error") or live.get("progress") or item["status"].get("message") or ""
    return str(found)


def _weights(weights: Document | None) -> str:
    return f"{weights.get('old', 0)}/{weights.get('new', 0)}" if weights else "–"  # noqa: RUF001
