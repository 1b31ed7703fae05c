"""Weighted random: the chance of an endpoint is in proportion to its score.

    key_i = U_i^(1 / score_i)       U uniform in (0, 1); the greatest keys win

Source: weighted-random-picker of the reference picker, which draws like this (A-Res: Efraimidis and
Spirakis, Weighted random sampling with a reservoir, 2006). The score is the weighted sum of scores.
In a profile with costs it is what the candidate is cheaper than the dearest. Scores that are all 0
draw uniformly; otherwise who scores 0 comes last. `maxNumOfEndpoints` limits how many endpoints an
answer names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from inferway.picker.scheduling.select import choose

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Floats, Random

_NEVER: Final = 1e300  # finite, after everyone who may win


class WeightedRandom:
    name = "weighted-random-picker"

    def __init__(self, max_num_of_endpoints: int | None = None) -> None:
        self._most = max_num_of_endpoints

    def choose(
        self, costs: Floats, candidates: Bools | None, rng: Random, *, count: int
    ) -> list[int]:
        count = min(count, self._most or count)
        drawn = rng.random(len(costs))
        among = costs if candidates is None else costs[candidates]
        if not among.size:
            return []
        dearest = float(among.max())
        scores = max(dearest, 0.0) - costs
        if not (scores > 0.0).any():
            return choose(drawn, candidates, rng, count=count)
        # -log(key), so that small scores do not underflow: the least wins.
        late = np.divide(
            -np.log1p(-drawn), scores, out=np.full(len(costs), _NEVER), where=scores > 0.0
        )
        return choose(np.minimum(late, _NEVER), candidates, rng, count=count)
