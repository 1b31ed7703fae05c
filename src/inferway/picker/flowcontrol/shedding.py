"""Refusing a growing part of what is sheddable before the pool is full.

Source: the reference's `probabilistic-admitter`: a negative priority is refused with probability
min(300 · s^5, 1), s the mean over endpoints of max(waiting / 5, kv usage / 0.8). Nothing is refused
where nothing is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.config import SheddingConfig
    from inferway.picker.scheduling.contracts import Endpoints


def shed_probability(config: SheddingConfig, endpoints: Endpoints) -> float:
    ratio = np.fmax(
        endpoints.waiting / config.queue_depth_max,
        endpoints.kv_usage_ratio / config.kv_usage_max_ratio,
    )
    known = ratio[endpoints.ready & ~np.isnan(ratio)]
    if not len(known):
        return 0.0
    return float(min(config.factor * float(known.mean()) ** config.power, 1.0))
