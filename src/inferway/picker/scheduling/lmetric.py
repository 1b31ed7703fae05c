"""LMETRIC: prefill ahead times requests there.

    cost = (pending + uncached) · (in_flight + 1)

Source: LMETRIC (OSDI '26). `pending` are uncached prompt tokens whose first token has not come,
`uncached` is what the request adds, `in_flight` the requests there; `+ 1` is the request itself, so
that an idle endpoint does not cost nothing. Unit: tokens times requests. There is no constant to
tune, and no term that keeps the partition of prompts over caches stable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request


class Lmetric:
    name = "lmetric"
    unit = "token requests"

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        tokens = endpoints.pending_tokens + request.prompt_tokens - request.matched_tokens
        cost: Floats = tokens * (endpoints.in_flight + 1.0)
        return cost
