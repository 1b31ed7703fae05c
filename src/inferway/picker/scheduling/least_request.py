"""Least requests: the endpoint with the fewest of our requests in flight.

    cost = in_flight

Source: the least outstanding requests rule of every load balancer (Envoy's LEAST_REQUEST with all
hosts compared instead of two). Counted at pick time, so it needs no scraped value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request


class LeastRequest:
    name = "least-request"
    unit = "requests"

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        return endpoints.in_flight.copy()
