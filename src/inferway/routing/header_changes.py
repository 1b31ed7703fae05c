"""What a route does to the headers of a request or response, in a form that can be put in sequence.

Problem: a modifier sets, adds and removes by name, twice (on the rule, then on the backend), and a
data plane that applies the two in an order of its own would give something else. Model: per header
one normal form, "drop what is there or not, then append these values", which is closed under doing
one after the other. Invariants: names are lower case and stand once; of several entries of one list
with an equivalent name the first counts, as the Gateway API says. Inside one modifier the order is
remove, set, add (the API leaves it open; this is the one in which nothing written is without
effect).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.resources.http_route_filters import Header, HeaderModifier


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """One header: with `replace` and no values it is removed."""

    name: str
    replace: bool  # what is there is dropped first
    values: tuple[str, ...]  # appended, each as a header line of its own


HeaderChanges = tuple[HeaderChange, ...]


def changes_of(modifier: HeaderModifier) -> HeaderChanges:
    """What one modifier does, by header in the order of first mention."""
    steps: list[HeaderChange] = [
        HeaderChange(name.lower(), replace=True, values=()) for name in modifier.remove
    ]
    steps += [
        HeaderChange(name, replace=True, values=(value,)) for name, value in _first(modifier.set)
    ]
    steps += [
        HeaderChange(name, replace=False, values=(value,)) for name, value in _first(modifier.add)
    ]
    return _in_sequence(steps)


def composed(first: HeaderChanges, then: HeaderChanges) -> HeaderChanges:
    """What doing one and then the other amounts to."""
    return _in_sequence((*first, *then))


def _first(headers: Iterable[Header]) -> Iterable[tuple[str, str]]:
    found: dict[str, str] = {}
    for header in headers:
        found.setdefault(header.name.lower(), header.value)
    return found.items()


def _in_sequence(steps: Iterable[HeaderChange]) -> HeaderChanges:
    found: dict[str, HeaderChange] = {}
    for step in steps:
        before = found.get(step.name)
        if before is None or step.replace:
            found[step.name] = step
        else:
            values = before.values + step.values
            found[step.name] = HeaderChange(step.name, before.replace, values)
    return tuple(found.values())
