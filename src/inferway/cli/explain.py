"""`inferway explain`: what a decision saw and why it came out as it did, from the running gateway's
admin API.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from inferway.cli.get import ADMIN_URL, TABLE_WIDTH_MAX, AdminOption, fetch, not_ours
from inferway.cli.run import complete_policy

if TYPE_CHECKING:
    from inferway.cli.conditions import Document

CANDIDATES_SHOWN = 40


def complete_outcome(incomplete: str) -> list[str]:
    from inferway.picker.explain import CLIENT_LEFT
    from inferway.picker.outcome import OUTCOMES

    known = [*(one.value for one in OUTCOMES), CLIENT_LEFT]
    return [one for one in known if one.startswith(incomplete)]


def explain(
    request_id: Annotated[
        str | None,
        typer.Argument(
            help="The x-request-id of its response; without one, recent decisions are listed.",
            show_default=False,
        ),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Explain the newest decision that the filters allow.")
    ] = False,
    pool: Annotated[
        str, typer.Option(help="Only of this pool: NAMESPACE/NAME.", show_default=False)
    ] = "",
    endpoint: Annotated[
        str,
        typer.Option(help="Only what was sent to, or answered by, this address."),
    ] = "",
    outcome: Annotated[
        str, typer.Option(help="Only what came out so.", autocompletion=complete_outcome)
    ] = "",
    policy: Annotated[
        str,
        typer.Option(
            help="What this policy would have chosen for the newest decisions instead.",
            autocompletion=complete_policy,
            show_default=False,
        ),
    ] = "",
    newest: Annotated[
        int, typer.Option("-n", "--newest", min=1, max=10_000, help="List so many.")
    ] = 20,
    all_candidates: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Show every endpoint, not just the first forty; of a list, with --json.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the gateway knows.")] = False,
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Explain a decision: every endpoint, what removed it, its costs, how fresh each value was, why
    the winner won, how it ended.

    Examples: inferway explain 6f2b1c1e-0001-4a6b-9d58-0a4f4d0e5a11 · inferway explain --last ·
    inferway explain --outcome no_endpoint · inferway explain --pool default/chat --last --json ·
    inferway explain --policy least-request -n 1000
    """
    if request_id and last:
        raise typer.BadParameter("--last is for when no request is named")
    wanted = {"pool": pool, "endpoint": endpoint, "outcome": outcome, "policy": policy}
    query = {key: value for key, value in wanted.items() if value}
    listed = not request_id and not last
    query["newest"] = str(1 if last else newest)
    if not listed:
        query["candidates"] = "10000" if all_candidates or as_json else str(CANDIDATES_SHOWN)
    elif all_candidates and as_json:
        query["candidates"] = "10000"
    found = fetch(admin, path_of(request_id), query)
    items, reach = found.get("items"), found.get("reach")
    if not isinstance(items, list) or not isinstance(reach, dict):
        typer.echo(not_ours(admin), err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not items:
        typer.echo(f"no decision like that: {reach_told(reach)}", err=True)
        raise typer.Exit(0 if listed else 1)
    show(items, reach, listed=listed, policy=policy)


def path_of(request_id: str | None) -> str:
    """Request ids come from clients, so they may hold anything."""
    from urllib.parse import quote

    return "/admin/explain" + (f"/{quote(request_id, safe='')}" if request_id else "")


def show(items: list[Document], reach: Document, *, listed: bool, policy: str) -> None:
    from rich.console import Console

    from inferway.cli.explain_view import decision, decisions
    from inferway.cli.what_if_view import what_if

    on_screen = Console().is_terminal
    console = Console(width=None if on_screen else TABLE_WIDTH_MAX, highlight=False)
    if listed and policy:
        for part in what_if(items, policy):
            console.print(part)
        typer.echo(reach_told(reach), err=True)
        return
    if listed:
        console.print(decisions(items))
        typer.echo(reach_told(reach), err=True)
        return
    for number, item in enumerate(items):
        if number:
            console.print("---")
        for part in decision(item):
            console.print(part)
        if policy:
            console.print(f"{policy} would have chosen {item['would_be'] or 'nobody'}")


def reach_told(reach: Document) -> str:
    if not reach["recorded_max"]:
        return "the picker records no decisions"
    if reach["oldest_age_s"] is None:
        return f"the picker has decided nothing since it started {reach['up_s']:.0f} s ago"
    words = f"{reach['recorded']} decisions are remembered, back to {reach['oldest_age_s']:.1f} s"
    fast = f", {reach['passed_over']} came too fast to be recorded" if reach["passed_over"] else ""
    return f"{words} ago; {reach['forgotten']} are forgotten{fast}"
