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

from inferway.picker.scheduling.compare import Rows

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


class NoHitLru:
    name = "no-hit-lru-scorer"

    def __init__(self, lru_size: int = 1024) -> None:
        self._size = lru_size
        self._last: dict[str, int] = {}  # address to number of use, longest ago first
        self._uses = 0
        self._rows = Rows()
        self._addresses: tuple[str, ...] | None = None
        self._used: Floats = np.zeros(0)  # `_last` by row

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        count = len(endpoints)
        if _is_cached(request):
            return np.full(count, 0.5)
        used = self._column(endpoints)
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
        used, rows = self._column(endpoints), self._rows.of(endpoints)
        self._uses += 1
        address = endpoints.addresses[row]
        self._last.pop(address, None)
        self._last[address] = self._uses
        used[row] = self._uses
        if len(self._last) > self._size:
            oldest = next(iter(self._last))
            del self._last[oldest]
            if oldest in rows:
                used[rows[oldest]] = 0.0

    def _column(self, endpoints: Endpoints) -> Floats:
        """Number of the last use by row; 0: none that is remembered."""
        if endpoints.addresses is not self._addresses:
            self._addresses = endpoints.addresses
            self._used = np.zeros(len(endpoints))
            rows = self._rows.of(endpoints)
            for address, number in self._last.items():
                if address in rows:
                    self._used[rows[address]] = number
        return self._used


def _is_cached(request: Request) -> bool:
    """Whether a candidate has a part of the prompt."""
    matched = request.matched_tokens
    return bool((matched if request.candidates is None else matched[request.candidates]).any())
