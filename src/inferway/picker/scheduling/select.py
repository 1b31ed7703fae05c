"""From costs to an ordered list of endpoints.

Problem: take the cheapest candidate, break ties fairly, and name a few to fall back on, in a
few microseconds for 4 endpoints and in a few dozen for 10,000. Model: ties are costs within a
relative 1e-9 of the least; one of them is drawn uniformly, the others follow it cyclically, so the
fallbacks of a burst spread as well; what is missing is filled by cost, then row. Up to 16 endpoints
plain Python is faster than arrays; above, repeated argmin beats argpartition for so short a list.
A cost that is not a number never wins over one that is.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Floats, Random

_FEW = 16
_ROWS = [tuple(range(count)) for count in range(_FEW + 1)]
_TIE = 1e-9
_INFINITE = float("inf")
_UNUSABLE = 1e300  # still less than a row that is no candidate


def choose(costs: Floats, candidates: Bools | None, rng: Random, *, count: int) -> list[int]:
    """At most `count` rows of candidates (None: all are), best first; none when there are none.

    `costs` is not kept and not changed.
    """
    if len(costs) > _FEW:
        return _choose_many(costs, candidates, rng, count)
    cost: list[float] = costs.tolist()
    if not isfinite(sum(cost)):
        cost = [min(_UNUSABLE, c) for c in cost]
    order = sorted(_ROWS[len(cost)], key=cost.__getitem__)
    if candidates is not None:
        order = [row for row in order if candidates[row]]
    if len(order) > 1 and cost[order[1]] <= (limit := _tied_up_to(cost[order[0]])):
        ties = sum(1 for row in order if cost[row] <= limit)
        tied = sorted(order[:ties])
        start = int(rng.random() * ties)
        order[:ties] = tied[start:] + tied[:start]
    return order[:count]


def _choose_many(costs: Floats, candidates: Bools | None, rng: Random, count: int) -> list[int]:
    cost = costs.copy() if candidates is None else np.where(candidates, costs, _INFINITE)
    count = min(count, len(cost) if candidates is None else int(candidates.sum()))
    if count == 0:
        return []
    best = int(cost.argmin())
    least = cost.item(best)
    if not isfinite(least):  # argmin stops at a value that is not a number
        cost = np.nan_to_num(costs, nan=_UNUSABLE, posinf=_UNUSABLE)
        if candidates is not None:
            cost[~candidates] = _INFINITE
        best = int(cost.argmin())
        least = cost.item(best)
    rows = [best]
    cost[best] = _INFINITE
    second = int(cost.argmin())
    if cost.item(second) <= (limit := _tied_up_to(least)):
        cost[best] = least
        tied = (cost <= limit).nonzero()[0]
        start = int(rng.random() * len(tied))
        rows = [tied.item((start + i) % len(tied)) for i in range(min(count, len(tied)))]
        cost[tied] = _INFINITE
    while len(rows) < count:
        row = int(cost.argmin())
        rows.append(row)
        cost[row] = _INFINITE
    return rows


def _tied_up_to(least: float) -> float:
    return least + _TIE * abs(least)


class LowestCost:
    """The picker of every profile that names no other."""

    name = "lowest-cost"
    choose = staticmethod(choose)
