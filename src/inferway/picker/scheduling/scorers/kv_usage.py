"""KV cache utilisation: most free KV cache.

    score = 1 - kv_usage_ratio

Source: kv-cache-utilization-scorer of the reference picker. The usage is scraped; many engines
count blocks that could be reused as used, so a warm idle engine may look full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferway.picker.scheduling.compare import Kept

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request


class KvUsage:
    name = "kv-cache-utilization-scorer"

    def __init__(self) -> None:
        self._kept = Kept(_free)

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return self._kept(request, endpoints)


def _free(endpoints: Endpoints, _among: Bools | None) -> Floats:
    return np.nan_to_num(np.clip(1.0 - endpoints.kv_usage_ratio, 0.0, 1.0), nan=0.0)
