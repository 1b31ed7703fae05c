"""Prefix cache: where most of the prompt is cached.

    ratio  = matched / prompt
    score  = (1 - w)·ratio + w·min(1, matched / scale)²

Source: prefix-cache-scorer of the reference picker, `w` = `matchLengthWeight`, `scale` =
`matchLengthScaleTokens`. Matches are in tokens, from the prefix index: what was sent there, or what
the engine says of its cache where it publishes events. The second part tells long matches of long
prompts from equal shares of short ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


class Prefix:
    name = "prefix-cache-scorer"

    def __init__(
        self,
        match_length_weight: float = 0.0,
        match_length_scale_tokens: int = 8192,
        auto_tune: bool | None = None,
    ) -> None:
        del auto_tune
        self._length_weight = match_length_weight
        self._scale = float(match_length_scale_tokens)

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        matched = request.matched_tokens
        ratio = matched * ((1.0 - self._length_weight) / request.prompt_tokens)
        if not self._length_weight:
            return ratio
        length = np.minimum(matched / self._scale, 1.0)
        score: Floats = ratio + self._length_weight * length * length
        return score


def precise() -> Prefix:
    """`precise-prefix-cache-scorer`, whose parameters are about an index of its own."""
    return Prefix()
