"""When to scrape which endpoint.

Problem: fresh readings cost CPU that decisions need; at 50 ms per endpoint the reference spends
cores on it. Model: `Pace` turns the measured cost of a scrape and the time since the last pick into
one interval per endpoint; `Schedule` spreads the endpoints over that interval with jitter, so that
scrapes never come in a burst. Invariants: the interval stays within the configured bounds; between
them, cost per scrape times scrapes per second stays below the cap. Pure: no clock and no I/O of its
own.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_IDLE_AFTER_S = 2.0  # without a pick for so long, readings are of less and less use
_IDLE_GROWTH = 0.5  # the interval grows to this share of the idle time
_JITTER = 0.1
_COST_FIRST_S = 0.001  # until measured: what a scrape costs the reference
_COST_WHOLE = 2.0  # a turn (430 µs measured) to its cheapest measured part (160 to 210 µs)
_COST_RISE = 1.005  # per measurement: doubles in 140


class PaceLimits(Protocol):
    """The part of `config.ScrapeConfig` that is used here."""

    @property
    def interval_min_s(self) -> float: ...
    @property
    def interval_max_s(self) -> float: ...
    @property
    def cost_max_ratio(self) -> float: ...


class Pace:
    """The interval at which every endpoint is scraped."""

    def __init__(self, limits: PaceLimits) -> None:
        self._limits = limits
        self._picked_at_s = float("-inf")
        self.cost_s = _COST_FIRST_S

    def measured(self, cpu_s: float) -> None:
        """`cpu_s` of the process passed from asking for a page to having read it.

        Other work is in it, so the estimate follows the lower envelope of the measurements; the
        task, timer and wake-up of each turn are not.
        """
        if cpu_s > 0.0:
            self.cost_s = min(self.cost_s * _COST_RISE, cpu_s * _COST_WHOLE)

    def picked(self, now_s: float) -> bool:
        """A pick was made; True when readings have grown old because there was none for long."""
        idle = now_s - self._picked_at_s > _IDLE_AFTER_S
        self._picked_at_s = now_s
        return idle

    def interval_s(self, endpoints: int, now_s: float) -> float:
        limits = self._limits
        interval_s = max(
            limits.interval_min_s, endpoints * self.cost_s / max(limits.cost_max_ratio, 1e-6)
        )
        idle_s = now_s - self._picked_at_s
        if idle_s > _IDLE_AFTER_S:
            interval_s = max(interval_s, idle_s * _IDLE_GROWTH)
        return min(interval_s, limits.interval_max_s)


class Schedule:
    """Due times of addresses. `random()` is uniform in [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._due_s: dict[str, float | None] = {}  # None: under way
        self._heap: list[tuple[float, str]] = []  # entries that `_due_s` contradicts are stale

    def __len__(self) -> int:
        return len(self._due_s)

    def set_addresses(self, addresses: Iterable[str], now_s: float) -> None:
        """New addresses are due at once; those not given are dropped."""
        wanted = dict.fromkeys(addresses)
        self._due_s = {a: due for a, due in self._due_s.items() if a in wanted}
        for address in wanted:
            if address not in self._due_s:
                self._set(address, now_s)

    def take_due(self, now_s: float) -> str | None:
        """The longest due address, which is then under way until `finished`; None if none is."""
        while self._heap and self._heap[0][0] <= now_s:
            due_s, address = heapq.heappop(self._heap)
            if self._due_s.get(address) == due_s:
                self._due_s[address] = None
                return address
        return None

    def next_due_s(self) -> float | None:
        while self._heap and self._due_s.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def finished(self, address: str, now_s: float, interval_s: float) -> None:
        """Schedules the next turn of an address that was under way."""
        if self._due_s.get(address, now_s) is None:
            self._set(address, now_s + interval_s * (1.0 + _JITTER * (2.0 * self._random() - 1.0)))

    def hasten(self, now_s: float, within_s: float) -> None:
        """Brings every turn that is later than `within_s` forward, spread over that time."""
        for address, due_s in self._due_s.items():
            if due_s is not None and due_s > now_s + within_s:
                self._set(address, now_s + within_s * self._random())

    def _set(self, address: str, due_s: float) -> None:
        self._due_s[address] = due_s
        heapq.heappush(self._heap, (due_s, address))
