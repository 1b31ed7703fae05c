"""Host patterns: what a listener and a route have in common, and which pattern comes first."""

from __future__ import annotations

import pytest

from inferway.routing.hostnames import (
    ANY,
    covering,
    covers,
    intersection,
    intersections,
    pattern,
    specificity,
)

# The examples in the documentation of HTTPRoute.spec.hostnames, and the edges around them.
INTERSECTIONS = [
    ("test.example.com", "test.example.com", "test.example.com"),
    ("test.example.com", "*.example.com", "test.example.com"),
    ("test.example.com", ANY, "test.example.com"),
    ("test.example.com", "other.example.com", None),
    ("*.example.com", "*.example.com", "*.example.com"),
    ("*.example.com", "test.example.com", "test.example.com"),
    ("*.example.com", "foo.test.example.com", "foo.test.example.com"),
    ("*.example.com", "*.test.example.com", "*.test.example.com"),
    ("*.example.com", "example.com", None),
    ("*.example.com", "test.example.net", None),
    ("*.example.com", "notexample.com", None),
    ("*.a.example.com", "*.b.example.com", None),
    ("*.example.com", ANY, "*.example.com"),
    (ANY, ANY, ANY),
    (ANY, "example.com", "example.com"),
    ("localhost", ANY, "localhost"),
    ("localhost", "*.localhost", None),
]


@pytest.mark.parametrize(("listener", "route", "common"), INTERSECTIONS)
def test_intersection_is_what_both_match(listener: str, route: str, common: str | None) -> None:
    assert intersection(listener, route) == common
    assert intersection(route, listener) == common


def test_route_without_hostnames_takes_those_of_the_listener() -> None:
    assert intersections("*.example.com", ()) == ("*.example.com",)
    assert intersections(ANY, ()) == (ANY,)


def test_hostnames_of_the_route_that_do_not_match_are_ignored() -> None:
    names = ("test.example.net", "b.example.com", "a.example.com", "b.example.com")
    assert intersections("*.example.com", names) == ("b.example.com", "a.example.com")
    assert intersections("other.org", names) == ()


def test_absent_empty_and_upper_case_hostnames() -> None:
    assert pattern(None) == pattern("") == ANY
    assert pattern("Example.COM") == "example.com"


@pytest.mark.parametrize(
    ("host", "chain"),
    [
        ("a.b.c", ["a.b.c", "*.b.c", "*.c", ANY]),
        ("*.b.c", ["*.b.c", "*.c", ANY]),
        ("localhost", ["localhost", ANY]),
        (ANY, [ANY]),
    ],
)
def test_covering_lists_every_wider_pattern(host: str, chain: list[str]) -> None:
    assert list(covering(host)) == chain
    assert all(covers(wide, host) for wide in chain)


def test_order_is_exact_then_longest_wildcard_then_any() -> None:
    ordered = ["long.example.com", "a.org", "*.long.example.com", "*.org", ANY]
    shuffled = [ordered[index] for index in (3, 0, 4, 2, 1)]
    assert sorted(shuffled, key=specificity) == ordered
