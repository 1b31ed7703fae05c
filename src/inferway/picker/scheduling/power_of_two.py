"""Power of two choices: the one with fewer requests of two that are drawn at random.

    cost = in_flight               of the `choices` candidates that are drawn
         = in_flight + 1e6         of the others: fallbacks

Source: Mitzenmacher, The power of two choices in randomized load balancing, 2001. Requests in
flight are counted at pick time, so one picker does not need the randomness; with several pickers
that do not know of each other it keeps them from all choosing the same endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request

_NOT_DRAWN: Final = 1e6  # requests; more than an endpoint ever has


class PowerOfTwo:
    name = "power-of-two"
    unit = "requests"

    def __init__(self, choices: int = 2) -> None:
        self._choices = choices

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        candidates = request.candidates
        among = len(endpoints) if candidates is None else int(candidates.sum())
        cost = endpoints.in_flight + _NOT_DRAWN
        drawn: set[int] = set()
        for left in range(among - min(self._choices, among) + 1, among + 1):
            # Floyd's sampling: each number once, with one draw each.
            number = int(rng.random() * left)
            drawn.add(left - 1 if number in drawn else number)
        rows = sorted(drawn)
        if candidates is not None:
            rows = candidates.nonzero()[0][rows].tolist() if rows else []
        for row in rows:
            cost[row] -= _NOT_DRAWN
        return cost
