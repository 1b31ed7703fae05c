"""Max score: the best rated endpoint; ties are broken at random.

Source: max-score-picker of the reference picker. `maxNumOfEndpoints` limits how many endpoints an
answer names: the choice and its fallbacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.scheduling.select import choose

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Floats, Random


class MaxScore:
    name = "max-score-picker"

    def __init__(self, max_num_of_endpoints: int | None = None) -> None:
        self._most = max_num_of_endpoints

    def choose(
        self, costs: Floats, candidates: Bools | None, rng: Random, *, count: int
    ) -> list[int]:
        return choose(costs, candidates, rng, count=min(count, self._most or count))
