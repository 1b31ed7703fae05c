"""The default detector: an endpoint is full when its engine keeps a queue that does not go away.

Problem: how many requests an engine runs at once depends on its settings, its memory and the
prompts of the moment, and nobody tells. Holding back too much idles an accelerator; too little
fills the engine's own queue, where priorities do not count. Model: a limit on our requests in
flight per endpoint, learnt from what the engine says. As in CoDel (Nichols and Jacobson, 2012) only
a standing queue counts (the least of two readings, or of five while the endpoint has fewer requests
than its limit), because a burst passes; and it is measured as time: a queue of `TARGET_S` at the
endpoint's present rate, at least one request, keeps the engine busy until our next request arrives.
A longer one sets the limit to what is there less the excess (our share of it, where others send
there too); none raises it, where it binds, at first a little, and doubling as long as that makes no
queue. An endpoint whose engine tells no queue length has no limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.config import EngineQueueConfig
    from inferway.picker.flowcontrol.saturation import Scraped, Table
    from inferway.picker.scheduling.contracts import Floats

TARGET_S: Final = 0.05
_STEP_S: Final = 0.1  # growth is per so much time, the fastest pace of scrapes
_STEP_RATIO: Final = 1 / 32
_RATE_S: Final = 1.0  # how long a rate is averaged
_NEAR_RATIO: Final = 0.95  # from there on the limit binds
_READINGS, _READINGS_BELOW = 2, 5
_NO_LIMIT: Final = float("inf")


class Learnt:
    """What is known of one endpoint."""

    __slots__ = (
        "_least",
        "_queueing",
        "_rate",
        "_since_picks",
        "_since_s",
        "growth",
        "limit",
        "scraped_s",
    )

    def __init__(self) -> None:
        self.limit = _NO_LIMIT
        self.growth = 0.0
        self.scraped_s: float | None = None
        self._queueing = 0  # readings in a row with a longer queue than is good
        self._least = 0.0  # queue in those
        self._rate = 0.0
        self._since_s = 0.0
        self._since_picks = 0

    def reading(self, scraped: Scraped, *, start: int, picks: int, now_s: float) -> None:
        """Moves the limit. `picks`: how many we have ever sent there."""
        waiting = scraped.waiting
        if waiting is None:
            self.limit, self.scraped_s = _NO_LIMIT, None
            return
        if self.scraped_s is None:
            self.limit = float(start)
            self._since_s, self._since_picks, self.scraped_s = now_s, picks, now_s
        own = scraped.own_requests
        target = max(1.0, TARGET_S * self._rate_at(picks, now_s))
        if waiting > target:
            self._least = min(self._least, waiting) if self._queueing else waiting
            self._queueing += 1
            needed = _READINGS if own >= self.limit * _NEAR_RATIO else _READINGS_BELOW
            if self._queueing >= needed:
                there = waiting + (scraped.running or 0.0)
                share = min(1.0, own / there) if there > 0.0 else 1.0
                self.limit = max(1.0, min(self.limit, own - (self._least - target) * share))
                self.growth = 0.0
                self._queueing = 0
        else:
            self._queueing = 0
            if 2.0 * waiting <= target:
                self._grow(own, now_s - self.scraped_s)
        self.scraped_s = now_s

    def _grow(self, own: float, elapsed_s: float) -> None:
        least = max(1.0, self.limit * _STEP_RATIO)
        step = max(least, 2.0 * self.growth)
        if own + least < self.limit:  # it does not bind: that nothing waits there proves nothing
            self.growth = 0.0
            return
        self.growth = min(step * max(1.0, elapsed_s / _STEP_S), self.limit)
        self.limit += self.growth

    def _rate_at(self, picks: int, now_s: float) -> float:
        """Requests per second that we send there."""
        elapsed_s = now_s - self._since_s
        if elapsed_s >= _RATE_S:
            self._rate += 0.5 * ((picks - self._since_picks) / elapsed_s - self._rate)
            self._since_s, self._since_picks = now_s, picks
        return self._rate


class EngineQueue:
    full_ratio = 1.0

    def __init__(self, config: EngineQueueConfig) -> None:
        self._start = config.start_requests
        self._learnt: dict[str, Learnt] = {}
        self._rows: list[Learnt] = []
        self._limits: list[float] = []

    def bind(self, table: Table) -> None:
        before = self._learnt
        self._table = table
        self._in_flight = table.in_flight
        self._learnt = {address: before.get(address) or Learnt() for address in table.addresses}
        self._rows = list(self._learnt.values())
        self._limits = [learnt.limit for learnt in self._rows]

    def scraped(self, row: int, scraped: Scraped, now_s: float) -> None:
        learnt = self._rows[row]
        learnt.reading(scraped, start=self._start, picks=self._table.picks(row), now_s=now_s)
        self._limits[row] = learnt.limit

    def limit(self, row: int) -> float:
        """Requests of ours that the endpoint takes at once; inf: not known."""
        return self._limits[row]

    def saturation(self, row: int, now_s: float) -> float:
        return self._in_flight(row) / self._limits[row]

    def saturations(self, now_s: float) -> Floats:
        ratio: Floats = self._table.view().in_flight / np.array(self._limits)
        return ratio
