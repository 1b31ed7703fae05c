"""No-hit LRU: requests that nobody has cached fill endpoints in turn.

    score = 0.5 for all              when a candidate has a part of the prompt cached
          = 1                        for an endpoint that never got such a request
          = 1 - rank / (n - 1)       for the others: longest ago first, those that never did before

Source: no-hit-lru-scorer of the reference picker. New prefixes are spread, so that caches fill
evenly and no prefix pushes another out. Endpoints that never got one share the first rank, where
the reference numbers them. `lruSize` endpoints are remembered, by address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


class NoHitLru:
    name = "no-hit-lru-scorer"

    def __init__(self, lru_size: int = 1024) -> None:
        self._size = lru_size
        self._last: dict[str, int] = {}  # address to number of use, longest ago first
        self._uses = 0

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        count = len(endpoints)
        if _is_cached(request):
            return np.full(count, 0.5)
        last = self._last
        used = np.array([last.get(address, 0) for address in endpoints.addresses])
        among = np.ones(count, dtype=np.bool_) if request.candidates is None else request.candidates
        others = int(among.sum()) - 1
        if others < 1:
            return np.ones(count)
        rank = np.minimum(np.searchsorted(np.sort(used[among]), used), others)
        scores: Floats = 1.0 - rank / others
        return scores

    def placed(self, request: Request, endpoints: Endpoints, row: int) -> None:
        if _is_cached(request):
            return
        self._uses += 1
        address = endpoints.addresses[row]
        self._last.pop(address, None)
        self._last[address] = self._uses
        if len(self._last) > self._size:
            del self._last[next(iter(self._last))]


def _is_cached(request: Request) -> bool:
    """Whether a candidate has a part of the prompt."""
    matched = request.matched_tokens
    return bool((matched if request.candidates is None else matched[request.candidates]).any())
