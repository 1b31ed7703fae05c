"""The Gateway API's order of matches, one table row per rule, and the whole order at once."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from inferway.routing.model import MatchKind, RouteMatch, ValueMatch
from inferway.routing.precedence import Origin, SortKey, precedence

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def match(
    kind: str = "prefix",
    path: str = "/",
    *,
    method: str | None = None,
    headers: int = 0,
    query: int = 0,
) -> RouteMatch:
    def conditions(number: int) -> tuple[ValueMatch, ...]:
        return tuple(
            ValueMatch(name=f"n{index}", kind=MatchKind.EXACT, value="v") for index in range(number)
        )

    return RouteMatch(
        path_kind=MatchKind(kind),
        path=path,
        method=method,
        headers=conditions(headers),
        query=conditions(query),
    )


def key(
    one: RouteMatch | None = None,
    *,
    route: str = "a/a",
    created: datetime | None = DAY,
    rule: int = 0,
    position: int = 0,
) -> SortKey:
    return precedence(
        one or match(), Origin(route=route, created=created, rule=rule, match=position)
    )


BETTER_AND_WORSE = {
    "an exact path beats any prefix": (
        key(match("exact", "/v1")),
        key(match("prefix", "/v1/chat/completions", method="POST", headers=9, query=9)),
    ),
    "an exact path beats an expression": (
        key(match("exact", "/v1")),
        key(match("regex", "/v1/.*/a/long/one")),
    ),
    "an expression beats a prefix": (
        key(match("regex", "/v1.*")),
        key(match("prefix", "/v1/chat/completions", method="POST")),
    ),
    "the longer expression wins": (
        key(match("regex", "/v1/[a-z]+")),
        key(match("regex", "/v1.*", method="POST", headers=2)),
    ),
    "the longer prefix wins over method, headers and query": (
        key(match("prefix", "/v1/chat")),
        key(match("prefix", "/v1", method="POST", headers=5, query=5)),
    ),
    "a method wins over headers": (key(match(method="POST")), key(match(headers=5, query=5))),
    "more headers win over query": (key(match(headers=2)), key(match(headers=1, query=5))),
    "more query parameters win": (key(match(query=2)), key(match(query=1))),
    "conditions win over age": (
        key(match(query=1), created=DAY),
        key(match(), created=DAY - timedelta(days=9)),
    ),
    "the older route wins over the name": (
        key(created=DAY - timedelta(seconds=1), route="z/z"),
        key(created=DAY, route="a/a"),
    ),
    "a route with a timestamp is older than one without": (
        key(created=DAY, route="z/z"),
        key(created=None, route="a/a"),
    ),
    "namespace/name in alphabetical order": (
        key(route="a/z", rule=9),
        key(route="b/a", rule=0),
    ),
    "the name is compared as one string, slash included": (
        key(route="team-a/x"),
        key(route="team/x"),
    ),
    "the first rule wins": (key(rule=0, position=9), key(rule=1, position=0)),
    "the first match of a rule wins": (key(position=0), key(position=1)),
}


@pytest.mark.parametrize("rule", BETTER_AND_WORSE)
def test_precedence(rule: str) -> None:
    better, worse = BETTER_AND_WORSE[rule]
    assert better < worse


def test_length_of_an_exact_path_does_not_matter() -> None:
    longer = key(match("exact", "/v1/chat"), rule=1)
    shorter = key(match("exact", "/v1", method="GET"), rule=2)
    assert shorter < longer  # only the method decides: two exact paths never fit one request


def test_matches_without_difference_keep_document_order() -> None:
    keys = [key(rule=rule, position=position) for rule in range(5) for position in range(5)]
    shuffled = keys.copy()
    random.Random(7).shuffle(shuffled)
    assert sorted(shuffled) == keys
