"""Expected marginal latency cost: what sending the request here costs it and everybody else.

All terms are seconds. Source: the project's own derivation, evaluated against the published
policies in simulation (lower mean end-to-end latency than the reference's weighted sum in 16 of 16
held-out cells); `w_T = 4`, `w_E = 1` are the weights frozen there.

    u      = L - matched                     uncached prompt tokens of the request (≥ 1)
    p      = u/R + a_q·u·(L - u/2)           its own prefill time there
    W      = pending/R                       prefill that is ahead of it
    itl    = t_step + b_kv·A + b_seq·n       time per token of the decodes there
    cost   = w_T·(t_1 + W + p) + Ô·itl + w_E·n·p     the last: it stalls n decodes
           + adapter + guard

The constants (R, a_q, t_1, t_step, b_kv, b_seq) are each endpoint's own, learnt from its answers
(datalayer/calibration.py), so that unlike accelerators share the work by their speed.
`adapter` is the wait for a LoRA adapter by tier. `guard` prices what scraped values show and our
own accounting does not explain: requests of others beyond a slack, and a cache close to preemption.
An endpoint whose values are unknown is priced like one at the worst reasonable reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferway.picker.scheduling.engine_constants import SHIPPED, EngineColumns
from inferway.picker.scheduling.marginal_terms import (
    FIRST_TOKEN_WEIGHT,
    STALL_WEIGHT,
    Alike,
    Unlike,
)

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request
    from inferway.picker.scheduling.marginal_terms import Terms

# Waiting for somebody else's adapter to finish with its slot takes about one answer.
_ADAPTER_FULL_S = 5.0
# Guard. Counts differ by a few while requests start and end, so that much is not foreign.
_FOREIGN_SLACK = 4.0
_FOREIGN_UNKNOWN = 8.0  # worst reasonable reading, beyond the slack
_FOREIGN_PROMPT_TOKENS, _FOREIGN_OUTPUT_TOKENS = 1_000.0, 200.0
_KV_HIGH, _KV_UNKNOWN, _KV_FULL = 0.8, 0.9, 0.99
_KV_BARRIER_S = 1.0


class MarginalCost:
    name = "marginal-cost"
    unit = "s"
    wait_weight = FIRST_TOKEN_WEIGHT

    def __init__(self) -> None:
        load_s = SHIPPED.adapter_load_s
        self._adapter_s = np.array([0.0, load_s, 2.0 * load_s, _ADAPTER_FULL_S])
        self._endpoints: Endpoints | None = None
        self._constants: EngineColumns | None = None
        self._terms: Terms = Alike(0, SHIPPED)
        self._guard_s: Floats | None = None

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        if endpoints is not self._endpoints:
            self._take_over(endpoints)
        cost = self._terms.cost(request, endpoints)
        if self._guard_s is not None:
            cost += self._guard_s
        if request.adapter_tier is not None:
            cost += self._adapter_s[request.adapter_tier.astype(np.intp)]
        return cost

    def parts(self, request: Request, endpoints: Endpoints) -> dict[str, Floats]:
        """What the cost consists of, for people: the formula as it is written above."""
        k = endpoints.constants or EngineColumns.shipped(len(endpoints))
        length, output = request.prompt_tokens, request.output_tokens
        uncached = length - request.matched_tokens
        prefill_s = uncached * k.prefill_token_s
        prefill_s += k.attention_s * uncached * (length - uncached / 2.0)
        token_s = k.step_s + k.context_token_s * endpoints.context_tokens
        token_s += k.sequence_s * endpoints.in_flight
        found = {
            "prefill": FIRST_TOKEN_WEIGHT * (k.first_token_s + prefill_s),
            "queue": FIRST_TOKEN_WEIGHT * endpoints.pending_tokens * k.prefill_token_s,
            "decode": output * token_s,
            "stalls": STALL_WEIGHT * endpoints.in_flight * prefill_s,
        }
        if request.adapter_tier is not None:
            found["adapter"] = self._adapter_s[request.adapter_tier.astype(np.intp)]
        guard_s = _guard(endpoints)
        if guard_s is not None:
            found["guard"] = guard_s
        return found

    def _take_over(self, endpoints: Endpoints) -> None:
        """Derives what holds for as long as these columns are given."""
        before, constants = self._endpoints, endpoints.constants
        if before is None or len(before) != len(endpoints) or constants is not self._constants:
            self._terms = _terms(len(endpoints), constants)
        self._endpoints, self._constants = endpoints, constants
        self._guard_s = _guard(endpoints)


def _terms(count: int, constants: EngineColumns | None) -> Terms:
    if constants is None:
        return Alike(count, SHIPPED)
    return Alike(count, constants.first) if constants.alike else Unlike(constants)


def _guard(endpoints: Endpoints) -> Floats | None:
    """Seconds per endpoint; does not depend on load. None: nothing to add anywhere."""
    k = endpoints.constants or EngineColumns.shipped(len(endpoints))
    foreign = np.maximum(endpoints.foreign_requests - _FOREIGN_SLACK, 0.0)
    foreign[np.isnan(foreign)] = _FOREIGN_UNKNOWN
    usage = np.minimum(endpoints.kv_usage_ratio, _KV_FULL)
    usage[np.isnan(usage)] = _KV_UNKNOWN
    each_s = FIRST_TOKEN_WEIGHT * _FOREIGN_PROMPT_TOKENS * k.prefill_token_s
    each_s += _FOREIGN_OUTPUT_TOKENS * (
        k.sequence_s + k.context_token_s * (_FOREIGN_PROMPT_TOKENS + _FOREIGN_OUTPUT_TOKENS)
    )
    barrier = np.maximum(usage - _KV_HIGH, 0.0) / (1.0 - usage)
    guard_s: Floats = foreign * each_s + _KV_BARRIER_S * barrier
    return guard_s if guard_s.any() else None
