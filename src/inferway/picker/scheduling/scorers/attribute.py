"""Endpoint attribute: linear in a value that is scraped.

    score = (value - low) / (high - low)      for `linear_higher`, clipped to [0, 1]
          = (high - value) / (high - low)     for `linear_lower`

Source: endpoint-attribute-scorer of the reference picker. `low` and `high` are a fixed range or, by
default, the least and the greatest of the candidates; all equal scores 1. The attribute is a custom
metric that core-metrics-extractor names; an endpoint without it scores 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferway.picker.scheduling.compare import Kept, fewest
from inferway.resources.picker_plugins.scorers import LinearAlgorithm  # noqa: TC001 - read at run time

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request


class EndpointAttribute:
    name = "endpoint-attribute-scorer"

    def __init__(self, attribute_key: str, algorithm: LinearAlgorithm) -> None:
        self._key = attribute_key
        self._sign = 1.0 if algorithm.type == "linear_lower" else -1.0
        self._range = algorithm.normalization.fixed_range
        self._kept = Kept(self._derive)

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return self._kept(request, endpoints)

    def _derive(self, endpoints: Endpoints, among: Bools | None) -> Floats:
        values = endpoints.attributes.get(self._key)
        if values is None:
            return np.zeros(len(endpoints))
        if self._range is None:
            return fewest(self._sign * values, among)
        worst = self._range.max if self._sign > 0 else self._range.min
        scores = self._sign * (worst - values) / (self._range.max - self._range.min)
        return np.nan_to_num(np.clip(scores, 0.0, 1.0), nan=0.0)
