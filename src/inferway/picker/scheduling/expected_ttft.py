"""Expected time to the first token, for the request alone.

    u    = L - matched                      uncached prompt tokens of the request (≥ 1)
    cost = t_1 + pending/R + u/R + a_q·u·(L - u/2)

Source: the first term of marginal-cost (Mooncake's Conductor chooses by the same quantity), with
each endpoint's own constants, learnt from its answers. Unit: seconds. Decodes that run there, and
what the request does to them, are not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.scheduling.predictions import Predictor

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request


class ExpectedTtft:
    name = "expected-ttft"
    unit = "s"

    def __init__(self) -> None:
        self._predictor = Predictor()

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        return self._predictor.ttft_s(request, endpoints)
