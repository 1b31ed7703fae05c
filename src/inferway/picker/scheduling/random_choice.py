"""Random: every ready endpoint is as likely as any other.

    cost = uniform in [0, 1)

Source: the reference picker's random-picker. The baseline that uses no knowledge at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Random, Request


class RandomChoice:
    name = "random"

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        return rng.random(len(endpoints))
