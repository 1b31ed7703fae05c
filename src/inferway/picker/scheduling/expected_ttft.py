"""Expected time to the first token, for the request alone.

    u    = L - matched                      uncached prompt tokens of the request (≥ 1)
    cost = pending/R + u/R + a_q·u·(L - u/2)

Source: the first term of marginal-cost (Mooncake's Conductor chooses by the same quantity). Unit:
seconds. Decodes that run there, and what the request does to them, are not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.scheduling.engine_constants import EngineConstants

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request


class ExpectedTtft:
    name = "expected-ttft"

    def __init__(self) -> None:
        self._constants = EngineConstants()

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        return self.seconds(request, endpoints)

    def seconds(self, request: Request, endpoints: Endpoints) -> Floats:
        """Per endpoint, shape (N,)."""
        k, length = self._constants, request.prompt_tokens
        uncached = length - request.matched_tokens
        attention_s = k.attention_s * uncached * (length - uncached * 0.5)
        seconds: Floats = (
            endpoints.pending_tokens + uncached
        ) / k.prefill_tokens_per_s + attention_s
        return seconds
