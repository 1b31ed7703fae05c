"""The order in which routes are tried.

Problem: several matches can fit one request, and every implementation of the Gateway API must let
the same one win. Model: one sort key per match; the first entry that fits serves the request. In
order, continuing on ties:

1. an Exact path; then a RegularExpression path, longest expression first (the API leaves its place
   open; ours is between, because an expression usually narrows a prefix, and an exact path must
   never lose to it); then the longest PathPrefix, in characters
2. a method condition
3. the most header conditions
4. the most query conditions
5. the oldest HTTPRoute; one without a timestamp (a manifest in a directory) counts as youngest
6. namespace/name of the HTTPRoute in alphabetical order
7. the position of the rule, then of the match, in the manifest

Host names come before all of this, but across virtual hosts, so they are not part of the key
(virtual_hosts.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from inferway.routing.model import MatchKind, Route, RouteMatch

_PATH_ORDER = {MatchKind.EXACT: 0, MatchKind.REGEX: 1, MatchKind.PREFIX: 2}
YOUNGEST = datetime.max.replace(tzinfo=UTC)

SortKey = tuple[int, int, bool, int, int, datetime, str, int, int]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a match was written."""

    route: str  # namespace/name of the HTTPRoute
    created: datetime | None
    rule: int
    match: int


@dataclass(frozen=True, slots=True)
class RankedRoute:
    """A route entry with its key, computed once however many virtual hosts it appears in."""

    key: SortKey
    route: Route


def precedence(match: RouteMatch, origin: Origin) -> SortKey:
    """The sort key of one match: smaller is tried earlier, and no two matches have the same."""
    exact = match.path_kind is MatchKind.EXACT
    return (
        _PATH_ORDER[match.path_kind],
        0 if exact else -len(match.path),
        match.method is None,
        -len(match.headers),
        -len(match.query),
        origin.created or YOUNGEST,
        origin.route,
        origin.rule,
        origin.match,
    )
