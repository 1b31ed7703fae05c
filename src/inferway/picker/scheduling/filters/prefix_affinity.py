"""Prefix cache affinity: stay with who has the prompt cached, until they are too busy.

    sticky = { i : matched_i / prompt ≥ threshold }        empty: everyone is kept
    kept   = sticky, unless min over sticky of T_i - min over the others of T_j > penalty
    T_i    = pending_i / peak prefill throughput           (`prefillThroughput`)
           = expected time to the first token              (`latencyPredictor`)

Source: prefix-cache-affinity-filter of the reference picker, a part of its newer default. It holds
the partition of prompts over caches stable, where a score would give it up for a small difference
in load. `pending` are uncached prompt tokens whose first token has not come, counted at pick time.
With `explorationProbability` everyone is kept; chance goes by the number of the request's stream,
so that the same request gets the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from inferway.picker.scheduling.chance import happens
from inferway.picker.scheduling.predictions import Predictor

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request


class PrefixAffinity:
    name = "prefix-cache-affinity-filter"

    def __init__(
        self,
        affinity_threshold: float = 0.8,
        exploration_probability: float = 0.0,
        max_ttft_penalty_ms: Annotated[float, Field(alias="maxTTFTPenaltyMs")] = 18_000.0,
        ttft_source: Literal["prefillThroughput", "latencyPredictor"] = "prefillThroughput",
        peak_prefill_throughput: int = 15_928,
    ) -> None:
        self._threshold = affinity_threshold
        self._exploration = exploration_probability
        self._penalty_s = max_ttft_penalty_ms / 1000.0
        self._tokens_per_s = float(peak_prefill_throughput)
        self._predictor = Predictor() if ttft_source == "latencyPredictor" else None

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        everyone = np.ones(len(endpoints), dtype=np.bool_)
        sticky: Bools = request.matched_tokens >= self._threshold * request.prompt_tokens
        among = request.candidates
        best = sticky if among is None else sticky & among
        if not best.any() or happens(self._exploration, request.pick.stream):
            return everyone
        others = ~sticky if among is None else among & ~sticky
        if others.any():
            start_s = self._start_s(request, endpoints)
            if start_s[best].min() - start_s[others].min() > self._penalty_s:
                return everyone
        return sticky

    def _start_s(self, request: Request, endpoints: Endpoints) -> Floats:
        if self._predictor is not None:
            return self._predictor.ttft_s(request, endpoints)
        waiting_s: Floats = endpoints.pending_tokens / self._tokens_per_s
        return waiting_s
