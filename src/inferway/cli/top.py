"""`inferway top`: pools and endpoints of the running gateway, live.

On a terminal the tables are redrawn in place and fit the screen; elsewhere they are printed one
after the other. Rates are differences between two readings of the admin API.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from inferway.cli.get import ADMIN_URL, TABLE_WIDTH_MAX, AdminError, AdminOption, fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from inferway.cli.top_view import Reading


class Sort(StrEnum):
    """What stands first among the endpoints of a pool."""

    ADDRESS = "address"
    PICKS = "picks"
    IN_FLIGHT = "in-flight"
    PENDING = "pending"
    WAITING = "waiting"
    RUNNING = "running"
    KV = "kv"


def top(
    pool: Annotated[
        str, typer.Option(help="Only this pool: NAMESPACE/NAME.", show_default=False)
    ] = "",
    sort: Annotated[Sort, typer.Option(help="Endpoints with most of this first.")] = Sort.ADDRESS,
    interval: Annotated[
        float, typer.Option("-i", "--interval", min=0.2, max=3600, help="Seconds between readings.")
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print the tables of one interval and end.")
    ] = False,
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Watch pools and endpoints: readiness, load, cache, picks per second, first-token times.

    Examples: inferway top · inferway top --sort in-flight --interval 5 · inferway top --once
    """
    from rich.console import Console

    console = Console(highlight=False)
    frames = pairs(admin, pool, interval, time.sleep)
    try:
        if console.is_terminal and not once:
            redraw(console, frames, sort)
        else:
            wide = console if console.is_terminal else Console(width=TABLE_WIDTH_MAX)
            print_all(wide, frames, sort, once=once)
    except AdminError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        return


def pairs(
    admin: str, pool: str, interval_s: float, pause: Callable[[float], None]
) -> Iterator[tuple[Reading, Reading] | str]:
    """Two readings in a row, an interval apart or as far as the picker reports; or what keeps them
    away. AdminError when there is no gateway at the start; one that goes away later is waited for.
    """
    before = reading(admin, pool)
    while True:
        pause(interval_s)
        try:
            now = reading(admin, pool)
        except AdminError as error:
            yield str(error)
            continue
        if now.at_s != before.at_s:  # else it is the same report once more
            yield before, now
            before = now


def reading(admin: str, pool: str) -> Reading:
    """AdminError also when the pool does not exist."""
    from inferway.cli.top_view import Reading

    status = fetched(admin, "/admin/status", {})
    pools = status.get("pools", [])
    if pool:
        known = [one["name"] for one in pools]
        pools = [one for one in pools if one["name"] == pool]
        if not pools:
            raise AdminError(f"no such pool: {pool} (known: {', '.join(known) or 'none'})")
    return Reading(status.get("picker_up_s"), pools)


def print_all(
    console: Console, found: Iterator[tuple[Reading, Reading] | str], sort: Sort, *, once: bool
) -> None:
    from inferway.cli.top_view import frame

    for one in found:
        if isinstance(one, str):
            typer.echo(one, err=True)
            continue
        console.print(frame(*one, sort.value))
        if once:
            return
        console.print("")


def redraw(console: Console, found: Iterator[tuple[Reading, Reading] | str], sort: Sort) -> None:
    from rich.live import Live
    from rich.text import Text

    from inferway.cli.top_view import frame

    with Live(console=console, auto_refresh=False, screen=True) as live:
        for one in found:
            if isinstance(one, str):
                live.update(Text(one, style="red"), refresh=True)
            else:
                live.update(frame(*one, sort.value, lines_max=console.height), refresh=True)
