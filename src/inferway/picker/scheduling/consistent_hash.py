"""Consistent hash with bounded loads: equal keys go to the same endpoint, while it has room.

    rank_i = place of endpoint i by hash(key, address_i), the greatest first
    cap    = ceil(loadFactor · (Σ in_flight + 1) / n)       over the n candidates
    cost   = rank_i          where in_flight_i < cap
           = rank_i + N      where it is full

Source: rendezvous hashing (Thaler and Ravishankar, 1998) with the bound of Mirrokni, Thorup and
Zadimoghaddam, Consistent hashing with bounded loads, 2016. An endpoint that comes or goes moves
only its own keys. The key is the session, the user of the request's body, or the first
`prefixBlocks` blocks of the prompt; a request without it goes to who has the fewest requests in
flight. Unit: places.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from inferway._native import hash_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inferway.picker.scheduling.contracts import Endpoints, Floats, PickRequest, Random, Request

_SHIFT: Final = np.uint64(32)
_MIX: Final = np.uint64(0x9E37_79B9_7F4A_7C15)


class ConsistentHash:
    name = "consistent-hash"
    unit = "places"

    def __init__(
        self,
        key: Literal["session", "user", "prefix"] = "session",
        load_factor: float = 1.25,
        prefix_blocks: int = 4,
    ) -> None:
        self._key, self._factor, self._blocks = key, load_factor, prefix_blocks
        self._addresses: tuple[str, ...] | None = None
        self._hashes: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        in_flight = endpoints.in_flight
        key = self._hash_of(request.pick)
        if key is None:
            return in_flight.copy()
        among = in_flight if request.candidates is None else in_flight[request.candidates]
        cap = ceil(self._factor * (float(among.sum()) + 1.0) / max(len(among), 1))
        count = len(endpoints)
        cost = np.empty(count)
        cost[np.argsort(self._mixed(key, endpoints))[::-1]] = np.arange(count)
        cost[in_flight >= cap] += count
        return cost

    def _hash_of(self, pick: PickRequest) -> int | None:
        if self._key == "prefix":
            hashes = pick.hashes
            return int(hashes[min(self._blocks, len(hashes)) - 1]) if len(hashes) else None
        text = pick.session if self._key == "session" else pick.user
        return hash_seed(text) if text else None

    def _mixed(self, key: int, endpoints: Endpoints) -> NDArray[np.uint64]:
        """One number per endpoint and key, as good as random."""
        if endpoints.addresses is not self._addresses:
            self._addresses = endpoints.addresses
            self._hashes = np.array([hash_seed(one) for one in endpoints.addresses], np.uint64)
        mixed = self._hashes ^ np.uint64(key)
        for _ in range(2):
            mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX
        return mixed ^ (mixed >> _SHIFT)
