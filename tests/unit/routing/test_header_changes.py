"""Header changes in sequence do what doing them one after the other does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferway.resources.http_route_filters import HeaderModifier
from inferway.routing.header_changes import HeaderChange, HeaderChanges, changes_of, composed

Headers = list[tuple[str, str]]


def applied(changes: HeaderChanges, headers: Headers) -> Headers:
    """What a proxy does, by the words of HeaderChange."""
    found = list(headers)
    for change in changes:
        if change.replace:
            found = [one for one in found if one[0] != change.name]
        found += [(change.name, value) for value in change.values]
    return sorted(found)


def by_name(headers: Headers) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return found


names = st.sampled_from(["a", "b", "c"])
change = st.builds(
    HeaderChange,
    names,
    replace=st.booleans(),
    values=st.lists(st.sampled_from("xyz"), max_size=3).map(tuple),
)
some_changes = st.lists(change, unique_by=lambda one: one.name, max_size=3).map(tuple)


@given(some_changes, some_changes, st.lists(st.tuples(names, st.just("sent")), max_size=4))
def test_composed_is_one_after_the_other(
    first: HeaderChanges, then: HeaderChanges, sent: Headers
) -> None:
    once = applied(composed(first, then), sent)
    assert by_name(once) == by_name(applied(then, applied(first, sent)))
    both = composed(first, then)
    assert len({one.name for one in both}) == len(both)


def test_one_modifier_removes_then_sets_then_adds() -> None:
    modifier = HeaderModifier.model_validate(
        {
            "set": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "ignored"}],
            "add": [{"name": "x-A", "value": "2"}, {"name": "X-B", "value": "3"}],
            "remove": ["X-B", "X-C"],
        }
    )
    assert changes_of(modifier) == (
        HeaderChange("x-b", replace=True, values=("3",)),
        HeaderChange("x-c", replace=True, values=()),
        HeaderChange("x-a", replace=True, values=("1", "2")),
    )
