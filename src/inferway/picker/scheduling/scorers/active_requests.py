"""Active requests: fewest of our requests in flight, relative to the most.

    score = 1                                    up to `idleThreshold` requests
          = (max - in_flight) / max · maxBusyScore     else; max over the candidates

Source: active-request-scorer of the reference picker. Counted at pick time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferway.picker.scheduling.compare import greatest

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


class ActiveRequests:
    name = "active-request-scorer"

    def __init__(self, idle_threshold: int = 0, max_busy_score: float = 1.0) -> None:
        self._idle = float(idle_threshold)
        self._best_busy = max_busy_score

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        in_flight = endpoints.in_flight
        most = greatest(in_flight, request.candidates)
        if most <= self._idle:
            return np.where(in_flight <= self._idle, 1.0, 0.0)
        busy = np.maximum(1.0 - in_flight / most, 0.0) * self._best_busy
        return np.where(in_flight <= self._idle, 1.0, busy)
