"""What waits for a pool: bands by priority, limits, and the times at which something is due.

Problem: among thousands of waiting requests the next one must be found at once, none may be lost or
stay for ever, and the limits must hold whatever comes. Model: bands are made when a priority first
has something to wait and collected when they have been idle; two timers per request (the end of its
time to live, and when it takes any endpoint) stand in heaps. Where a limit of the whole pool is
reached, the newest of the lowest priority gives way to a higher one. Invariants: a request that
entered leaves exactly once, through `leave`; limits are never exceeded; priorities are strict.

It does not know why something leaves, and answers nobody.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from inferway.picker.flowcontrol.band import Band
from inferway.picker.flowcontrol.waiting import ANYWHERE, FOR_EVER, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from inferway.picker.flowcontrol.config import FlowConfig

T = TypeVar("T")

BAND_IDLE_S: Final = 600.0


class Timers(Generic[T]):
    """Requests by a time of theirs. One that left, or has another time by now, is passed over."""

    __slots__ = ("_heap", "_read")

    def __init__(self, read: Callable[[Waiting[T]], float]) -> None:
        self._heap: list[tuple[float, int, Waiting[T]]] = []
        self._read = read

    def add(self, item: Waiting[T]) -> None:
        due_s = self._read(item)
        if due_s < FOR_EVER:
            heappush(self._heap, (due_s, item.sequence, item))

    def next_s(self) -> float:
        heap = self._heap
        while heap and not self._holds(heap[0]):
            heappop(heap)
        return heap[0][0] if heap else FOR_EVER

    def due(self, now_s: float) -> Iterator[Waiting[T]]:
        while self.next_s() <= now_s:
            yield heappop(self._heap)[2]

    def tidy(self, alive: int) -> None:
        """Keeps the heap from filling with what has left."""
        if len(self._heap) > 2 * alive + 64:
            self._heap = sorted(entry for entry in self._heap if self._holds(entry))

    def _holds(self, entry: tuple[float, int, Waiting[T]]) -> bool:
        return entry[2].waits and entry[0] == self._read(entry[2])


class FlowQueue(Generic[T]):
    """All bands of one pool."""

    def __init__(self, config: FlowConfig) -> None:
        self.config = config
        self.requests = 0
        self.bytes = 0
        self._sequence = 0
        self._bands: dict[int, Band[T]] = {}
        self._order: list[Band[T]] = []  # highest priority first
        self._expiry: Timers[T] = Timers(lambda item: item.expires_s)
        self._loosening: Timers[T] = Timers(lambda item: item.loose_s)

    def __len__(self) -> int:
        return self.requests

    def bands(self) -> list[Band[T]]:
        """Highest priority first; also those that are empty now."""
        return self._order

    def band(self, priority: int) -> Band[T] | None:
        return self._bands.get(priority)

    def items(self) -> list[Waiting[T]]:
        """Everything that waits, by priority and entry."""
        return [item for band in self._order for item in band.items()]

    def places(self) -> list[str]:
        """Where something waits."""
        return list(dict.fromkeys(place for band in self._order for place in band.places()))

    def ahead_of(self, priority: int) -> int:
        """How many would go before a newcomer of that priority."""
        return sum(band.requests for band in self._order if band.priority >= priority)

    def ahead_at(self, place: str, priority: int) -> int:
        """How many of those wait for the place, or for any."""
        return sum(
            band.waiting_at(place) + (band.waiting_at(ANYWHERE) if place else 0)
            for band in self._order
            if band.priority >= priority
        )

    def enter(self, item: Waiting[T], now_s: float) -> list[Waiting[T]] | None:
        """Lets it wait. Returns those that had to leave for it, or None when there is no place."""
        band = self._bands.get(item.priority) or self._new_band(item.priority, now_s)
        if not band.fits(item.bytes):
            return None
        displaced = self._make_place(item)
        if displaced is None:
            return None
        for other in displaced:
            self.leave(other, now_s)
        self._sequence += 1
        item.sequence = self._sequence
        item.entered_s = now_s
        item.waits = True
        self.requests += 1
        self.bytes += item.bytes
        band.enter(item, now_s)
        self._expiry.add(item)
        self._loosening.add(item)
        return displaced

    def leave(self, item: Waiting[T], now_s: float) -> bool:
        """Takes it out, for whatever reason. False when it does not wait (any longer)."""
        if not item.waits:
            return False
        item.waits = False
        self.requests -= 1
        self.bytes -= item.bytes
        self._bands[item.priority].leave(item, now_s)
        self._expiry.tidy(self.requests)
        self._loosening.tidy(self.requests)
        return True

    def bind(self, item: Waiting[T], place: str, loose_s: float) -> None:
        """It waits for `place` until `loose_s`, and then for any."""
        item.loose_s = loose_s
        self._loosening.add(item)
        self._loosening.tidy(self.requests)
        if item.place != place:
            self._bands[item.priority].move(item, place)

    def expire_at(self, item: Waiting[T], expires_s: float) -> None:
        """Its time to live has changed."""
        item.expires_s = expires_s
        self._expiry.add(item)
        self._expiry.tidy(self.requests)

    def loosen(self, now_s: float) -> bool:
        """Lets those take any endpoint that have waited long enough for one; whether some did."""
        any_did = False
        for item in self._loosening.due(now_s):
            item.loose_s = FOR_EVER
            if item.place != ANYWHERE:
                self._bands[item.priority].move(item, ANYWHERE)
                any_did = True
        return any_did

    def expired(self, now_s: float) -> list[Waiting[T]]:
        """Those whose time to live has ended. They wait until `leave`."""
        return list(dict.fromkeys(self._expiry.due(now_s)))  # one may have had a time twice

    def next_s(self) -> float:
        """When `expired` or `loosen` will have something."""
        return min(self._expiry.next_s(), self._loosening.next_s())

    def head(self, place: str, admits: Callable[[int], bool]) -> Waiting[T] | None:
        """The next one for the place, of the highest priority that `admits` and has one."""
        for band in self._order:
            if band.requests and admits(band.priority):
                item = band.head(place)
                if item is not None:
                    return item
        return None

    def served(self, item: Waiting[T]) -> None:
        """Charges its flow; before `leave`."""
        self._bands[item.priority].served(item)

    def corrected(self, priority: int, flow: str, tokens: float) -> None:
        band = self._bands.get(priority)
        if band is not None:
            band.corrected(flow, tokens)

    def reconfigure(self, config: FlowConfig, now_s: float) -> None:
        """What waits stays, also beyond limits that are smaller now. A band whose policies have
        changed is made anew: its flows start even.
        """
        self.config = config
        for band in list(self._order):
            wanted = config.band(band.priority)
            if wanted.fairness == band.config.fairness:
                band.config = wanted
                continue
            self._order.remove(band)
            del self._bands[band.priority]
            fresh = self._new_band(band.priority, now_s)
            for item in band.items():
                fresh.enter(item, now_s)

    def collect(self, now_s: float) -> None:
        """Forgets bands and flows that have been idle."""
        for band in list(self._order):
            if not band.requests and now_s - band.used_s >= BAND_IDLE_S:
                self._order.remove(band)
                del self._bands[band.priority]
            else:
                band.forget_idle(now_s)

    def _new_band(self, priority: int, now_s: float) -> Band[T]:
        band: Band[T] = Band(priority, self.config.band(priority), now_s)
        self._bands[priority] = band
        self._order.append(band)
        self._order.sort(key=lambda one: -one.priority)
        return band

    def _make_place(self, item: Waiting[T]) -> list[Waiting[T]] | None:
        """Whom it displaces under the limits of the pool; None when they would not suffice."""
        requests_max, bytes_max = self.config.requests_max, self.config.bytes_max
        requests = self.requests + 1 - requests_max if requests_max else 0
        size = self.bytes + item.bytes - bytes_max if bytes_max else 0
        displaced: list[Waiting[T]] = []
        for band in reversed(self._order):
            if band.priority >= item.priority or (requests <= 0 and size <= 0):
                break
            for other in band.newest_first():
                displaced.append(other)
                requests -= 1
                size -= other.bytes
                if requests <= 0 and size <= 0:
                    break
        return displaced if requests <= 0 and size <= 0 else None
