"""Load aware: a short queue is half a reason to go there.

    score = 0.5                                       when nothing waits
          = 0.5·(1 - min(waiting, threshold) / threshold)     else

Source: load-aware-scorer of the reference picker. Unlike queue-scorer it does not compare: ten
waiting requests score the same whatever the others have. `waiting` is scraped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferway.picker.scheduling.compare import Kept

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request


class LoadAware:
    name = "load-aware-scorer"

    def __init__(self, threshold: int = 128) -> None:
        self._threshold = float(threshold)
        self._kept = Kept(self._derive)

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return self._kept(request, endpoints)

    def _derive(self, endpoints: Endpoints, _among: Bools | None) -> Floats:
        waiting = np.minimum(endpoints.waiting, self._threshold)
        return np.nan_to_num(0.5 * (1.0 - waiting / self._threshold), nan=0.0)
