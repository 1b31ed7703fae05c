"""Round robin: every endpoint in turn, in the order of the configuration.

    cost_i = (i - sequence) mod N

Source: the rule of every load balancer. An endpoint that is not ready passes its turn to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request


class RoundRobin:
    name = "round-robin"
    unit = "turns"

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        count = len(endpoints)
        turn = sequence % count if count else 0
        cost = np.empty(count)
        cost[turn:] = np.arange(count - turn)
        cost[:turn] = np.arange(count - turn, count)
        return cost
