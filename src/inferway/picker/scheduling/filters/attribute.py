"""Endpoint attribute: drop endpoints by a threshold for a value that is scraped.

    kept = value OPERATOR threshold

Source: endpoint-attribute-filter of the reference picker. The attribute is a custom metric that
core-metrics-extractor names. `onMissing` says what happens to endpoints without it. When nobody is
left the request is refused, or with `fallbackOnEmpty` everyone is kept.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from inferway.resources.picker_plugins.filters import ThresholdAlgorithm  # noqa: TC001 - read at run time

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request

_OPERATORS: Final[dict[str, Callable[[Floats, float], Bools]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}


class EndpointAttribute:
    name = "endpoint-attribute-filter"

    def __init__(
        self,
        attribute: str,
        algorithm: ThresholdAlgorithm,
        on_missing: Literal["Pass", "Reject"] = "Pass",
        fallback_on_empty: bool = False,
    ) -> None:
        self._attribute = attribute
        self._holds = _OPERATORS[algorithm.threshold.operator]
        self._threshold = algorithm.threshold.value
        self._missing = on_missing == "Pass"
        self.required = not fallback_on_empty

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        values = endpoints.attributes.get(self._attribute)
        if values is None:
            return np.full(len(endpoints), self._missing)
        kept = self._holds(values, self._threshold)
        kept[np.isnan(values)] = self._missing
        return kept
