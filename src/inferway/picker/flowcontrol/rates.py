"""How fast a pool takes requests, by priority: what a Retry-After is computed from.

Problem: who must come back later wants to know when there will be room. Model: the counts of placed
requests are sampled and averaged with forgetting. While a pool is full, what it places is what it
drains. A priority can count on what it and those below it got: the rest goes to higher ones.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLE_S: Final = 0.5  # shorter ones would be noise
_FORGET_S: Final = 4.0
_FLOOR_RATIO: Final = 0.02  # of the whole rate: what even the lowest priority gets in the long run
_FLOOR: Final = 0.1  # requests per second, where nothing is placed


class Rates:
    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        self._sampled_s: float | None = None
        self._rates: dict[int, float] = {}

    def sample(self, placed: Mapping[int, int], now_s: float) -> None:
        """`placed`: requests placed so far, by priority. Harmless when called too often."""
        if self._sampled_s is None:
            self._before, self._sampled_s = dict(placed), now_s
            return
        elapsed_s = now_s - self._sampled_s
        if elapsed_s < SAMPLE_S:
            return
        weight = 1.0 - exp(-elapsed_s / _FORGET_S)
        for priority, count in placed.items():
            rate = (count - self._before.get(priority, 0)) / elapsed_s
            before = self._rates.get(priority, 0.0)
            self._rates[priority] = before + weight * (rate - before)
        self._before, self._sampled_s = dict(placed), now_s

    @property
    def whole(self) -> float:
        """Requests per second; above 0."""
        return max(sum(self._rates.values()), _FLOOR)

    def of(self, priority: int) -> float:
        """Requests per second that the priority can count on; above 0."""
        own = sum(rate for other, rate in self._rates.items() if other <= priority)
        return max(own, self.whole * _FLOOR_RATIO, _FLOOR)
