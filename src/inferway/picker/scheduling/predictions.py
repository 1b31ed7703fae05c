"""What latency a request would see on each endpoint, in seconds.

    u    = L - matched                        uncached prompt tokens of the request (≥ 1)
    ttft = t_1 + (pending + u)/R + a_q·u·(L - u/2)
    tpot = t_step + b_kv·(A + L + Ô) + b_seq·(n + 1)      with the request among those that decode

Constants are each endpoint's own, learnt from its answers. `tpot` is that of a server without
prompts in between: how many of those will come, nobody knows. Requests may carry objectives
(`x-slo-ttft-ms`, `x-slo-tpot-ms`); the headroom is objective - prediction, and infinite where the
request has no objective. What a request has already waited in the gateway is not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from inferway.picker.scheduling.engine_constants import EngineColumns

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request

# Below, an engine holds nothing worth mentioning; source: latency-slo-admitter of the reference.
_KV_IDLE_RATIO = 0.02


class Headroom(NamedTuple):
    """Seconds, each (N,); negative: the objective would be missed."""

    ttft_s: Floats
    tpot_s: Floats

    @property
    def met(self) -> Bools:
        both: Bools = (self.ttft_s >= 0.0) & (self.tpot_s >= 0.0)
        return both


class Predictor:
    """Keeps nothing but the shipped constants for a pool of the size it saw last."""

    def __init__(self) -> None:
        self._shipped = EngineColumns.shipped(0)

    def constants(self, endpoints: Endpoints) -> EngineColumns:
        if endpoints.constants is not None:
            return endpoints.constants
        if len(self._shipped) != len(endpoints):
            self._shipped = EngineColumns.shipped(len(endpoints))
        return self._shipped

    def ttft_s(self, request: Request, endpoints: Endpoints) -> Floats:
        """Time to first token, (N,)."""
        k, length = self.constants(endpoints), request.prompt_tokens
        uncached = length - request.matched_tokens
        seconds: Floats = (endpoints.pending_tokens + uncached) * k.prefill_token_s
        seconds += k.attention_s * uncached * (length - uncached * 0.5)
        seconds += k.first_token_s
        return seconds

    def tpot_s(self, request: Request, endpoints: Endpoints) -> Floats:
        """Time per output token, (N,)."""
        k = self.constants(endpoints)
        own = request.prompt_tokens + request.output_tokens
        seconds: Floats = (endpoints.context_tokens + own) * k.context_token_s
        seconds += (endpoints.in_flight + 1.0) * k.sequence_s
        seconds += k.step_s
        return seconds

    def headroom(self, request: Request, endpoints: Endpoints) -> Headroom:
        ttft_ms, tpot_ms = request.pick.slo_ttft_ms, request.pick.slo_tpot_ms
        unlimited = np.full(len(endpoints), np.inf)
        return Headroom(
            ttft_ms * 1e-3 - self.ttft_s(request, endpoints) if ttft_ms else unlimited,
            tpot_ms * 1e-3 - self.tpot_s(request, endpoints) if tpot_ms else unlimited,
        )


def idle(endpoints: Endpoints) -> Bools:
    """Who has nothing to do, so that waiting would make nothing better."""
    nothing: Bools = (endpoints.in_flight == 0.0) | (endpoints.kv_usage_ratio < _KV_IDLE_RATIO)
    return nothing
