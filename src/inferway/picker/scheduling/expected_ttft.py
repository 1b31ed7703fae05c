"""Expected time to the first token, for the request alone.

    u    = L - matched                      uncached prompt tokens of the request (≥ 1)
    cost = t_1 + pending/R + u/R + a_q·u·(L - u/2)

Source: the first term of marginal-cost (Mooncake's Conductor chooses by the same quantity), with
each endpoint's own constants, learnt from its answers. Unit: seconds. Decodes that run there, and
what the request does to them, are not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.scheduling.engine_constants import EngineColumns

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request


class ExpectedTtft:
    name = "expected-ttft"
    unit = "s"

    def __init__(self) -> None:
        self._shipped = EngineColumns.shipped(0)

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        return self.seconds(request, endpoints)

    def seconds(self, request: Request, endpoints: Endpoints) -> Floats:
        """Per endpoint, shape (N,)."""
        k = endpoints.constants
        if k is None:
            if len(self._shipped) != len(endpoints):
                self._shipped = EngineColumns.shipped(len(endpoints))
            k = self._shipped
        length = request.prompt_tokens
        uncached = length - request.matched_tokens
        seconds: Floats = (endpoints.pending_tokens + uncached) * k.prefill_token_s
        seconds += k.attention_s * uncached * (length - uncached * 0.5)
        seconds += k.first_token_s
        return seconds
