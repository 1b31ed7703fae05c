"""Shares of a route whose targets need more than Envoy's weighted entries can say.

Problem: an entry of Envoy's weighted clusters cannot be a fixed reply, rewrite a path or be
mirrored. Model: such a route becomes several with the same match, each taking the requests whose
random number lies below its cumulative bound. Envoy draws that number once per request and uses it
in every comparison, so the bounds cut it into exact shares (of a millionth). The same number also
decides whether a fraction is mirrored; inside a share that decision would be anything but a
fraction, so a share that is mirrored in part is cut into parts that are mirrored or not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inferway.routing.features import MILLION, NO_FILTERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inferway.routing.features import Filters
    from inferway.routing.model import Target


@dataclass(frozen=True, slots=True)
class Share:
    """The requests below this bound, in millionths, that no share before has taken."""

    target: Target
    bound: int


def shares(targets: Sequence[Target]) -> list[Share]:
    """Targets of positive weight, in order; the last bound is a million."""
    total = sum(target.weight for target in targets)
    before = 0
    found = []
    for target in targets:
        for end, part in _parts(target.filters or NO_FILTERS):
            bound = (before * MILLION + target.weight * end) // total
            found.append(Share(replace(target, filters=part), bound))
        before += target.weight
    return found


def _parts(filters: Filters) -> Iterator[tuple[int, Filters]]:
    """Where each part of a target's requests ends, in millionths, and who gets all of it."""
    ends = sorted({mirror.millionths for mirror in filters.mirrors} | {MILLION})
    for end in ends:
        mirrors = tuple(
            replace(mirror, millionths=MILLION)
            for mirror in filters.mirrors
            if mirror.millionths >= end
        )
        yield end, replace(filters, mirrors=mirrors)
