"""Saturation by our own requests and tokens in flight.

Source: the reference's `concurrency-detector`: in flight / (endpoints · limit); in mode hybrid the
greater of the requests' and the tokens' ratio per endpoint. It needs nothing of the engines, and a
limit that somebody has found out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.config import ConcurrencyConfig
    from inferway.picker.flowcontrol.saturation import Scraped, Table
    from inferway.picker.scheduling.contracts import Floats


class Concurrency:
    def __init__(self, config: ConcurrencyConfig) -> None:
        self.full_ratio = 1.0 + config.headroom_ratio
        self._per_request = 0.0 if config.mode == "tokens" else 1.0 / config.requests_max
        self._per_token = 0.0 if config.mode == "requests" else 1.0 / config.tokens_max

    def bind(self, table: Table) -> None:
        self._table = table

    def scraped(self, row: int, scraped: Scraped, now_s: float) -> None:
        pass

    def saturation(self, row: int, now_s: float) -> float:
        requests, _, tokens = self._table.accounting(row)
        return max(requests * self._per_request, tokens * self._per_token)

    def saturations(self, now_s: float) -> Floats:
        columns = self._table.view()
        ratio: Floats = np.maximum(
            columns.in_flight * self._per_request, columns.context_tokens * self._per_token
        )
        return ratio
