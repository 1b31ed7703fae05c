"""Token load: least prefill ahead, the request's own included.

    score = 1 - min(pending + uncached, threshold) / threshold

Source: token-load-scorer of the reference picker (`threshold` = `queueThresholdTokens`). `pending`
are the uncached prompt tokens that were sent there and whose first token has not come; `uncached`
is what the request adds. Both are counted at pick time. Decode load is invisible to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


class TokenLoad:
    name = "token-load-scorer"

    def __init__(self, queue_threshold_tokens: int = 4_194_304) -> None:
        self._threshold = float(queue_threshold_tokens)

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        tokens = endpoints.pending_tokens + request.prompt_tokens - request.matched_tokens
        score: Floats = 1.0 - np.minimum(tokens, self._threshold) / self._threshold
        return score
