"""The reference picker's default profile: a weighted sum of three scores, the highest wins.

    queue  = (max - waiting) / (max - min)   over the endpoints; 1 for all when all are equal
    cache  = 1 - kv_usage_ratio
    prefix = matched / prompt
    cost   = -(2·queue + 2·cache + 3·prefix)

Source: llm-d-router and Gateway API Inference Extension 1.5, default weights. Differences: an
unknown queue or cache scores 0 (there an unknown value reads as an idle engine), and the prefix is
measured in tokens, not in blocks. It sees load only as fresh as the last scrape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request

_QUEUE_WEIGHT, _CACHE_WEIGHT, _PREFIX_WEIGHT = 2.0, 2.0, 3.0


class WeightedSum:
    name = "weighted-sum"

    def __init__(self) -> None:
        self._scored: Endpoints | None = None
        self._load: Floats = np.zeros(0)

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        if endpoints is not self._scored:
            self._scored, self._load = endpoints, _load(endpoints)
        return request.matched_tokens * (-_PREFIX_WEIGHT / request.prompt_tokens) - self._load


def _load(endpoints: Endpoints) -> Floats:
    """The part of the score that depends on scraped columns only."""
    queue = np.zeros(len(endpoints))
    known = ~np.isnan(endpoints.waiting)
    if known.any():
        waiting = endpoints.waiting[known]
        low, high = waiting.min(), waiting.max()
        queue[known] = (high - waiting) / (high - low) if high > low else 1.0
    cache = np.nan_to_num(1.0 - endpoints.kv_usage_ratio, nan=0.0)
    load: Floats = _QUEUE_WEIGHT * queue + _CACHE_WEIGHT * cache
    return load
