"""Expected marginal latency cost: what sending the request here costs it and everybody else.

All terms are seconds. Source: the project's own derivation, evaluated against the published
policies in simulation (lower mean end-to-end latency than the reference's weighted sum in 16 of 16
held-out cells); `w_T = 4`, `w_E = 1` are the weights frozen there.

    u      = L - matched                     uncached prompt tokens of the request (≥ 1)
    p      = u/R + a_q·u·(L - u/2)           its own prefill time there
    W      = pending/R                       prefill that is ahead of it
    itl    = t_step + b_kv·A + b_seq·n       time per token of the decodes there
    cost   = w_T·(W + p) + Ô·itl + w_E·n·p   the last: it stalls n decodes
           + adapter + guard

`adapter` is the wait for a LoRA adapter by tier. `guard` prices what scraped values show and our
own accounting does not explain: requests of others beyond a slack, and a cache close to preemption.
An endpoint whose values are unknown is priced like one at the worst reasonable reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy import add, copyto, multiply

from inferway.picker.scheduling.engine_constants import EngineConstants

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request


_FIRST_TOKEN_WEIGHT = 4.0  # w_T
_STALL_WEIGHT = 1.0  # w_E
_PREFILL_RATIO = _FIRST_TOKEN_WEIGHT / _STALL_WEIGHT
# Waiting for somebody else's adapter to finish with its slot takes about one answer.
_ADAPTER_FULL_S = 5.0
# Guard. Counts differ by a few while requests start and end, so that much is not foreign.
_FOREIGN_SLACK = 4.0
_FOREIGN_UNKNOWN = 8.0  # worst reasonable reading, beyond the slack
_FOREIGN_PROMPT_TOKENS, _FOREIGN_OUTPUT_TOKENS = 1_000.0, 200.0
_KV_HIGH, _KV_UNKNOWN, _KV_FULL = 0.8, 0.9, 0.99
_KV_BARRIER_S = 1.0
# A larger product would wake the threads of the linear algebra library, which spin afterwards.
_PRODUCT_BYTES_MAX = 8 * 1_500


class MarginalCost:
    name = "marginal-cost"
    unit = "s"

    def __init__(self, constants: EngineConstants | None = None) -> None:
        self._constants = k = constants or EngineConstants()
        self._token_s = _STALL_WEIGHT / k.prefill_tokens_per_s
        self._pair_s = _STALL_WEIGHT * k.attention_s / 2.0
        self._adapter_s = np.array([0.0, k.adapter_load_s, 2.0 * k.adapter_load_s, _ADAPTER_FULL_S])
        # Of the rows of `Endpoints.load`, and of the two that `_columns_with` adds.
        pending_s = _FIRST_TOKEN_WEIGHT / k.prefill_tokens_per_s
        self._factors = np.array([0.0, pending_s, 0.0, 0.0, -_PREFILL_RATIO, -1.0])
        self._load_factors = self._factors[:4]
        self._factor = cast("memoryview[float]", self._factors.data)
        # As arrays, because a ufunc takes them in half the time of a float.
        self._token, self._pair = np.array(self._token_s), np.array(self._pair_s)
        self._columns = np.zeros((6, 0))
        self._nothing = b""
        self._endpoints: Endpoints | None = None
        self._guard_s: Floats | None = None

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        """The formula with its terms regrouped, because every array operation counts.

        With g = w_T/w_E:  w_T·p + w_E·n·p + Ô·b_seq·n = (n + g)·(w_E·p + Ô·b_seq) - g·Ô·b_seq
        With m = matched:  p = (L - m)/R + a_q/2·(L² - m²)
        So with s = w_E·(m/R + a_q/2·m²), which the match saves, the cost is linear in n, pending,
        A, s and n·s: one product. Without a match the first three do.
        """
        if endpoints is not self._endpoints:
            self._take_over(endpoints)
        k, length, output = self._constants, request.prompt_tokens, request.output_tokens
        prefill_s = length * (self._token_s + length * self._pair_s)
        matched = request.matched_tokens
        factors, columns = self._load_factors, endpoints.load
        if matched.tobytes() != self._nothing:  # an eighth of what any() takes
            factors, columns = self._factors, self._columns_with(endpoints, matched)
        factor = self._factor
        factor[0] = prefill_s + output * k.sequence_s
        factor[2] = output * k.context_token_s
        factor[3] = output * k.step_s + _PREFILL_RATIO * prefill_s
        cost: Floats = (
            factors.dot(columns)
            if len(self._nothing) <= _PRODUCT_BYTES_MAX
            else np.einsum("i,ij->j", factors, columns)
        )
        if self._guard_s is not None:
            cost += self._guard_s
        if request.adapter_tier is not None:
            cost += self._adapter_s[request.adapter_tier.astype(np.intp)]
        return cost

    def _columns_with(self, endpoints: Endpoints, matched: Floats) -> Floats:
        """The load, s and n·s, shape (6, N); valid until the next call."""
        saved = self._saved
        copyto(self._load, endpoints.load)
        multiply(matched, self._pair, saved)
        add(saved, self._token, saved)
        multiply(saved, matched, saved)
        multiply(saved, self._in_flight, self._stalled)
        return self._columns

    def _take_over(self, endpoints: Endpoints) -> None:
        """Derives what holds for as long as these columns are given."""
        count = len(endpoints)
        self._endpoints, self._guard_s = endpoints, self._guard(endpoints)
        self._nothing = bytes(8 * count)
        self._columns = np.zeros((6, count))
        self._load, self._in_flight = self._columns[:4], self._columns[0]
        self._saved, self._stalled = self._columns[4:]

    def _guard(self, endpoints: Endpoints) -> Floats | None:
        """Seconds per endpoint; depends on scraped columns only. None: nothing to add anywhere."""
        k = self._constants
        foreign = np.maximum(endpoints.foreign_requests - _FOREIGN_SLACK, 0.0)
        foreign[np.isnan(foreign)] = _FOREIGN_UNKNOWN
        usage = np.minimum(endpoints.kv_usage_ratio, _KV_FULL)
        usage[np.isnan(usage)] = _KV_UNKNOWN
        each_s = _FIRST_TOKEN_WEIGHT * _FOREIGN_PROMPT_TOKENS / k.prefill_tokens_per_s
        each_s += _FOREIGN_OUTPUT_TOKENS * (
            k.sequence_s + k.context_token_s * (_FOREIGN_PROMPT_TOKENS + _FOREIGN_OUTPUT_TOKENS)
        )
        barrier = np.maximum(usage - _KV_HIGH, 0.0) / (1.0 - usage)
        guard_s: Floats = foreign * each_s + _KV_BARRIER_S * barrier
        return guard_s if guard_s.any() else None
