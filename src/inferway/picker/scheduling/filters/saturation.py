"""Saturation: drop endpoints that are full, by one of the two detectors.

    utilization-detector   kept: max(waiting / queueDepthThreshold, kv usage / kvCacheUtilThreshold)
                                 ≤ 1 + headroom
    concurrency-detector   kept: in flight / limit < 1 + headroom; requests, tokens, or the greater

Source: the detectors of the reference picker, which are filters too where a profile names them. An
endpoint whose values are unknown is kept only when none is known to have room. Metrics are stale
when they are older than the threshold although requests of ours run there; an idle endpoint is read
rarely. When nobody has room everyone is kept: refusing is what flow control is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from inferway.resources.scalars import go_duration_s

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Request


class UtilizationDetector:
    name = "utilization-detector"

    def __init__(
        self,
        queue_depth_threshold: int = 5,
        kv_cache_util_threshold: float = 0.8,
        metrics_staleness_threshold: str = "200ms",
        staleness_policy: Literal["saturated", "ignore"] = "saturated",
        headroom: float = 0.0,
    ) -> None:
        self._queue = float(queue_depth_threshold)
        self._usage = max(kv_cache_util_threshold, 1e-9)
        self._stale_s = go_duration_s(metrics_staleness_threshold)
        self._stale_is_full = staleness_policy == "saturated"
        self._limit = 1.0 + headroom

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        full = np.fmax(endpoints.waiting / self._queue, endpoints.kv_usage_ratio / self._usage)
        stale = (endpoints.metrics_age_s > self._stale_s) & (endpoints.in_flight > 0.0)
        full[stale] = np.inf if self._stale_is_full else np.nan
        within = full <= self._limit
        among = within if request.candidates is None else within & request.candidates
        kept: Bools = within if among.any() else ~(full > self._limit)
        return kept


class ConcurrencyDetector:
    name = "concurrency-detector"

    def __init__(
        self,
        max_concurrency: int = 100,
        max_token_concurrency: int = 1_000_000,
        concurrency_mode: Literal["requests", "tokens", "hybrid"] = "requests",
        headroom: float = 0.0,
    ) -> None:
        self._per_request = 0.0 if concurrency_mode == "tokens" else 1.0 / max_concurrency
        self._per_token = 0.0 if concurrency_mode == "requests" else 1.0 / max_token_concurrency
        self._limit = 1.0 + headroom

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        full = np.maximum(
            endpoints.in_flight * self._per_request, endpoints.context_tokens * self._per_token
        )
        kept: Bools = full < self._limit
        return kept
