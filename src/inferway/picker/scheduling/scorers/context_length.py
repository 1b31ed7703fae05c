"""Context length: endpoints that are meant for prompts of this length.

A label holds the range of prompt lengths, `min-max` in tokens, that an endpoint is meant for:

    inside   0.3 + 0.7·(0.7 / (1 + width/10000) + 0.3·(max - length) / width)
    outside  0.3 / (1 + distance/1000)
    0.5 without a readable label

Source: context-length-aware of the reference picker. A narrow range that fits beats a wide one, and
one with room beats one that is just long enough. The length is the estimate of the prompt's tokens.
With `enableFiltering`, endpoints whose range does not fit are dropped besides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from inferway.resources.picker_plugins.scorers import CONTEXT_RANGE_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request

_RANGE: Final = re.compile(r"([0-9]{1,12})-([0-9]{1,12})")


class ContextLength:
    name = "context-length-aware"

    def __init__(self, label: str = CONTEXT_RANGE_LABEL) -> None:
        self._label = label
        self._labels: tuple[Mapping[str, str], ...] | None = None
        self._low: Floats = np.zeros(0)
        self._high: Floats = np.zeros(0)

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        self._read(endpoints)
        low, high, length = self._low, self._high, request.prompt_tokens
        width = high - low
        room = np.divide(high - length, width, out=np.zeros(len(width)), where=width > 0)
        inside = 0.3 + 0.7 * (0.7 / (1.0 + width / 10_000) + 0.3 * room)
        distance = np.maximum(low - length, length - high)
        scores = np.where(distance <= 0.0, inside, 0.3 / (1.0 + np.maximum(distance, 0.0) / 1000))
        scores[np.isnan(width)] = 0.5
        return scores

    def _read(self, endpoints: Endpoints) -> None:
        """The ranges of these labels; NaN where there is none."""
        if endpoints.labels is not self._labels:
            self._labels = endpoints.labels
            ranges = [_range(one.get(self._label, "")) for one in endpoints.labels]
            self._low, self._high = np.array(ranges, dtype=np.float64).reshape(-1, 2).T


class ContextLengthFilter(ContextLength):
    """It drops, and scores those that are left."""

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        self._read(endpoints)
        length = request.prompt_tokens
        kept: Bools = ~((length < self._low) | (length > self._high))
        return kept


def context_length_aware(
    label: str = CONTEXT_RANGE_LABEL,
    enable_filtering: bool = False,
) -> ContextLength:
    return (ContextLengthFilter if enable_filtering else ContextLength)(label)


def _range(text: str) -> tuple[float, float]:
    found = _RANGE.fullmatch(text)
    low, high = (float(found[1]), float(found[2])) if found else (np.nan, np.nan)
    return (low, high) if low <= high else (np.nan, np.nan)
