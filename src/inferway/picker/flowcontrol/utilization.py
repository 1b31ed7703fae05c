"""Saturation by what engines report: queue length and used KV cache.

Source: the reference's `utilization-detector`: max(waiting / 5, kv usage / 0.8) per endpoint, the
mean over the pool; missing values count as saturated or not at all. What we have sent since the
scrape is added to the queue: all of it when the engine had one, else what exceeds half of what it
ran (at least `SPARE_REQUESTS`). Our scraper leaves an idle endpoint alone for seconds, so values
are stale only where requests of ours are under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.config import UtilizationConfig
    from inferway.picker.flowcontrol.saturation import Scraped, Table
    from inferway.picker.scheduling.contracts import Floats

SPARE_REQUESTS: Final = 8.0
_UNKNOWN: Final = float("nan")
_NEVER: Final = float("-inf")


class Utilization:
    def __init__(self, config: UtilizationConfig) -> None:
        self._config = config
        self.full_ratio = 1.0 + config.headroom_ratio
        self._known: dict[str, tuple[Scraped, float]] = {}
        self._waiting = self._kv_usage = self._sent_before = self._scraped_s = np.zeros(0)

    def bind(self, table: Table) -> None:
        self._table = table
        count = len(table.addresses)
        self._waiting, self._kv_usage = np.full(count, _UNKNOWN), np.full(count, _UNKNOWN)
        self._sent_before = np.full(count, np.inf)
        self._scraped_s = np.full(count, _NEVER)
        self._known = {a: known for a, known in self._known.items() if a in table.rows}
        for address, (scraped, at_s) in self._known.items():
            self._take(table.rows[address], scraped, at_s)

    def scraped(self, row: int, scraped: Scraped, now_s: float) -> None:
        self._known[self._table.addresses[row]] = scraped, now_s
        self._take(row, scraped, now_s)

    def saturation(self, row: int, now_s: float) -> float:
        in_flight = self._table.in_flight(row)
        if self._is_stale(in_flight, float(self._scraped_s[row]), now_s):
            return 1.0 if self._config.stale == "saturated" else 0.0
        since = max(in_flight - float(self._sent_before[row]), 0.0)
        queue = (float(self._waiting[row]) + since) / self._config.queue_depth_max
        usage = float(self._kv_usage[row]) / self._config.kv_usage_max_ratio
        known = [ratio for ratio in (queue, usage) if ratio == ratio]
        return max(known, default=0.0)

    def saturations(self, now_s: float) -> Floats:
        config, in_flight = self._config, self._table.view().in_flight
        since = np.maximum(in_flight - self._sent_before, 0.0)
        queue = (self._waiting + since) / config.queue_depth_max
        ratio: Floats = np.fmax(queue, self._kv_usage / config.kv_usage_max_ratio)
        stale = (in_flight > 0.0) & (now_s - self._scraped_s > config.stale_after_s)
        ratio[stale] = 1.0 if config.stale == "saturated" else _UNKNOWN
        return ratio

    def _is_stale(self, in_flight: float, scraped_s: float, now_s: float) -> bool:
        return in_flight > 0.0 and now_s - scraped_s > self._config.stale_after_s

    def _take(self, row: int, scraped: Scraped, now_s: float) -> None:
        waiting, running = scraped.waiting, scraped.running or 0.0
        self._waiting[row] = _UNKNOWN if waiting is None else waiting
        usage = scraped.kv_usage_ratio
        self._kv_usage[row] = _UNKNOWN if usage is None else usage
        spare = 0.0 if waiting else max(SPARE_REQUESTS, running / 2.0)
        self._sent_before[row] = scraped.own_requests + spare
        self._scraped_s[row] = now_s
