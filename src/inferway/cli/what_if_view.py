"""How `inferway explain --policy` shows what another policy would have chosen.

Each decision is judged by itself, with everything as it really was; what the other choices would
have led to is not played on. Decisions that cannot be made again (refused, or of a pool of which
not all endpoints are kept) are left out and counted.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferway.cli.conditions import Document

EXAMPLES_MAX: Final = 10


def what_if(items: list[Document], policy: str) -> Iterator[Text | Table]:
    """The sum, the endpoints' shares, and the newest differences."""
    judged = [one for one in items if one["winner"] and one["would_be"]]
    differing = [one for one in judged if one["winner"] != one["would_be"]]
    if not judged:
        yield Text("none of these decisions can be made again")
        return
    share = len(differing) / len(judged)
    yield Text(
        f"{policy} would have chosen differently in {len(differing)} of {len(judged)} decisions "
        f"({share:.0%})"
    )
    if len(judged) < len(items):
        yield Text(f"{len(items) - len(judged)} more cannot be made again")
    yield Text("")
    yield _shares(judged, policy)
    if differing:
        yield Text("")
        yield _examples(differing[:EXAMPLES_MAX], policy)


def _shares(judged: list[Document], policy: str) -> Table:
    was = Counter(one["winner"] for one in judged)
    would = Counter(one["would_be"] for one in judged)
    rows = _table("ENDPOINT", "CHOSEN", policy)
    for address in sorted({*was, *would}):
        rows.add_row(address, str(was[address]), str(would[address]))
    return rows


def _examples(differing: list[Document], policy: str) -> Table:
    rows = _table("REQUEST", "MODEL", "CHOSEN", policy, "WHY")
    for one in differing:
        rows.add_row(
            Text(one["request_id"]),
            Text(one["served_model"]),
            one["winner"],
            one["would_be"],
            Text(one["reason"]),
        )
    return rows


def _table(*titles: str) -> Table:
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        rows.add_column(title, overflow="fold")
    return rows
