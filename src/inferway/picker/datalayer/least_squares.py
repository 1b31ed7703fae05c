"""Least squares that forgets, stays within bounds and does not believe a minority.

Problem: coefficients of a cost model must be learnt from a stream of observations that lacks
variation for hours, drifts, and holds garbage. Model: recursive least squares in information form,
a batch at a time. With y the observations and x their terms (one per coefficient, each already
multiplied by the coefficient's shipped value, so that 1 means "as shipped"), the estimate is

    argmin_f  Σ_batches keep^age · Σ ((x·f - y) / ŷ)²  +  (f - c)ᵀ·P·(f - c)      low ≤ f ≤ high

ŷ is what the estimate before the batch predicts: errors are relative, so a long prompt counts no
more than a short one. The prior P pulls towards a centre c, weakly along the common scale of all
coefficients and harder across it: what the data cannot tell apart keeps the centre's proportions
and moves with the rest. Because P is never forgotten, data without variation end at the prior; in
the textbook recursion the covariance would blow up.

Guard: in a batch, m is the median of log(y/ŷ) and s the median of the distances from it.
Observations farther than 3·s from m are pulled in to that distance, those beyond 4·s are dropped,
and so is a batch without agreement (s > 1). So a minority may be garbage of any size, while a
server that really became ten times slower is followed within two batches. Source: recursive least
squares with exponential forgetting (Ljung, System Identification, ch. 11), Huber's winsorising.
"""

from __future__ import annotations

from math import exp, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_PULL_IN, _DROP = 3.0, 4.0  # in median deviations
_DEVIATION_MIN = 0.02  # below it, differences are the engine's own jitter
_DEVIATION_MAX = 1.0  # half of the batch is off by a factor of e: it says nothing
_STEP_MAX = 2.0  # a batch moves the estimate by a factor of e² at most


def prior(terms: int, *, scale: float, proportions: float) -> Floats:
    """P of the module's text, (terms, terms). The strengths are in observations: how many of them
    outweigh the centre, along the common scale and across it.
    """
    along = np.full((terms, terms), 1.0 / terms)
    pull: Floats = proportions * (np.eye(terms) - along) + scale * along
    return pull


def screened(rows: Sequence[tuple[float, ...]], estimate: Floats) -> tuple[Floats, int]:
    """The believable ones of the rows (x…, y), divided by their prediction, and how many were
    dropped. Terms must be ≥ 0 and not all 0, y above 0.
    """
    table = np.array(rows)
    table /= (table[:, :-1] @ estimate)[:, None]
    ratios = table[:, -1]
    logs = np.log(ratios).tolist()
    middle = _median(logs)
    off = [abs(one - middle) for one in logs]
    deviation = max(_median(off), _DEVIATION_MIN)
    if deviation > _DEVIATION_MAX:
        return table[:0], len(off)
    farthest = max(off)
    if farthest > _PULL_IN * deviation or abs(middle) > _STEP_MAX:
        middle = min(max(middle, -_STEP_MAX), _STEP_MAX)
        reach = _PULL_IN * deviation
        np.clip(ratios, exp(middle - reach), exp(middle + reach), out=ratios)
    if farthest <= _DROP * deviation:
        return table, 0
    kept = [index for index, distance in enumerate(off) if distance <= _DROP * deviation]
    return table[kept], len(off) - len(kept)


def _median(values: list[float]) -> float:
    """The upper one of two."""
    return sorted(values)[len(values) // 2]


class Memory:
    """What is remembered of all batches: one matrix of squares and products."""

    __slots__ = ("_keep", "_products")

    def __init__(self, terms: int, *, keep: float) -> None:
        """`keep`: share of its weight that a batch has left when the next one is absorbed."""
        self._keep = keep
        self._products = np.zeros((terms + 1, terms + 1))

    def absorb(self, table: Floats) -> None:
        """Takes in what `screened` returned."""
        self._products *= self._keep
        self._products += table.T @ table

    @property
    def products(self) -> Floats:
        """Shape (terms + 1, terms + 1), the observations last. To be read only."""
        return self._products

    def apart(self, one: Floats, other: Floats) -> float:
        """Root mean square of the difference of what two estimates predict for what is remembered,
        relative to what the first predicts. 0 when there is nothing.
        """
        products = self._products[:-1, :-1]
        difference = one - other
        predicted = float(one @ products @ one)
        return sqrt(float(difference @ products @ difference) / predicted) if predicted else 0.0

    def solve(self, center: Floats, pull: Floats, *, low: float, high: float) -> Floats:
        """The estimate. Coefficients that would leave the bounds are held there while the others
        are fitted again.
        """
        left: Floats = self._products[:-1, :-1] + pull
        right: Floats = self._products[:-1, -1] + pull @ center
        found = np.asarray(np.linalg.solve(left, right), dtype=np.float64)
        values = found.tolist()
        if low <= min(values) and max(values) <= high:  # a tenth of what arrays take
            return found
        beyond = held = (found < low) | (found > high)
        while beyond.any():
            np.clip(found, low, high, out=found)
            fixed: Floats = np.where(held[:, None], np.eye(len(found)), left)
            found[:] = np.linalg.solve(fixed, np.where(held, found, right))
            beyond = ((found < low) | (found > high)) & ~held
            held |= beyond
        return np.clip(found, low, high, out=found)
