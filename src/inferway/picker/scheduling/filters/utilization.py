"""Utilization: drop endpoints that exceed a limit.

    kept = every condition holds: metric ≤ maxValue

Source: utilization-filter of the reference picker. `active-requests` are ours in flight, the other
metrics are scraped. An endpoint whose value is unknown is kept only when none is known to be within
the limits. When nobody is, the request is refused, or with `fallbackOnEmpty` everyone is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from inferway.resources.picker_plugins.filters import MetricLimit  # noqa: TC001 - read at run time

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request

_METRICS: Final[dict[str, Callable[[Endpoints], Floats]]] = {
    "active-requests": lambda endpoints: endpoints.in_flight,
    "running-requests": lambda endpoints: endpoints.running,
    "waiting-queue": lambda endpoints: endpoints.waiting,
    "kv-cache-utilization": lambda endpoints: endpoints.kv_usage_ratio,
}


class Utilization:
    name = "utilization-filter"

    def __init__(self, conditions: list[MetricLimit], fallback_on_empty: bool = False) -> None:
        self._limits = [(_METRICS[one.metric], one.max_value) for one in conditions]
        self.required = not fallback_on_empty

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        within = np.ones(len(endpoints), dtype=np.bool_)
        beyond = np.zeros(len(endpoints), dtype=np.bool_)
        for metric, limit in self._limits:
            values = metric(endpoints)
            within &= values <= limit
            beyond |= values > limit
        known = within if request.candidates is None else within & request.candidates
        kept: Bools = within if known.any() else ~beyond
        return kept
