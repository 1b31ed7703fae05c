"""All that waits at one priority: flows, and in each flow one lane per place.

Problem: when an endpoint gets room, the next request for it must be found without looking at those
that wait for others; and a request that leaves must leave at once. Model: a lane is a heap of the
requests of one flow for one place (an endpoint, or anywhere); the band knows which flows have
something in the lanes of a place, so that finding the next costs one look at each of them.
Invariants: `requests` and `bytes` are those of what waits; a flow is listed under a place exactly
while something of it waits there. A request that has left stays in its heap until it comes up or
until half of the heap is such.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from inferway.picker.flowcontrol.fairness import fairness
from inferway.picker.flowcontrol.waiting import ANYWHERE, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferway.picker.flowcontrol.config import BandConfig

T = TypeVar("T")

FLOWS_MAX: Final = 1_000  # remembered per band; clients can choose their names
OTHER_FLOW: Final = "other"  # shared by those beyond
FLOW_IDLE_S: Final = 300.0
_DEAD_MAX: Final = 16  # in a heap, before half of it may be


class Lane(Generic[T]):
    """A heap of requests; `alive` counts those that still wait in it."""

    __slots__ = ("_heap", "alive", "place")

    def __init__(self, place: str) -> None:
        self.place = place
        self.alive = 0
        self._heap: list[tuple[float, float, int, Waiting[T]]] = []

    def add(self, item: Waiting[T]) -> None:
        heappush(self._heap, (*item.rank, item))
        self.alive += 1

    def left(self) -> None:
        """One of them waits no longer, or elsewhere."""
        self.alive -= 1
        if len(self._heap) - self.alive > _DEAD_MAX + self.alive:
            self._heap = [entry for entry in self._heap if self._here(entry[3])]
            heapify(self._heap)

    def head(self) -> Waiting[T] | None:
        heap = self._heap
        while heap:
            item = heap[0][3]
            if self._here(item):
                return item
            heappop(heap)
        return None

    def _here(self, item: Waiting[T]) -> bool:
        return item.waits and item.place == self.place


class Flow(Generic[T]):
    __slots__ = ("idle_since_s", "lanes", "name", "requests", "virtual")

    def __init__(self, name: str) -> None:
        self.name = name
        self.virtual = 0.0
        self.requests = 0
        self.idle_since_s = 0.0
        self.lanes: dict[str, Lane[T]] = {}


class Band(Generic[T]):
    """One priority. `config` may be exchanged by the owner; the policies may not."""

    def __init__(self, priority: int, config: BandConfig, now_s: float) -> None:
        self.priority = priority
        self.config = config
        self.bytes = 0
        self.used_s = now_s  # when something entered or left
        self._fairness = fairness(config.fairness)
        self._items: dict[int, Waiting[T]] = {}  # in the order of their entry
        self._flows: dict[str, Flow[T]] = {}
        self._busy: dict[Flow[T], None] = {}
        self._at: dict[str, dict[Flow[T], None]] = {}

    @property
    def requests(self) -> int:
        return len(self._items)

    @property
    def flows(self) -> int:
        """Flows that are remembered."""
        return len(self._flows)

    def items(self) -> list[Waiting[T]]:
        """In the order of their entry."""
        return list(self._items.values())

    def newest_first(self) -> Iterator[Waiting[T]]:
        return reversed(self._items.values())

    def places(self) -> list[str]:
        """Where something waits."""
        return list(self._at)

    def by_flow(self) -> list[tuple[str, int]]:
        """Flows of which something waits, and how much."""
        return [(flow.name, flow.requests) for flow in self._busy]

    def waiting_at(self, place: str) -> int:
        """How many wait for the place."""
        return sum(flow.lanes[place].alive for flow in self._at.get(place, ()))

    def fits(self, size_bytes: int) -> bool:
        config = self.config
        return (not config.requests_max or len(self._items) < config.requests_max) and (
            not config.bytes_max or self.bytes + size_bytes <= config.bytes_max
        )

    def enter(self, item: Waiting[T], now_s: float) -> None:
        flow = self._flows.get(item.flow) or self._new_flow(item, now_s)
        if not flow.requests:
            self._fairness.joined(flow, self._busy)
            self._busy[flow] = None
        flow.requests += 1
        self._items[item.sequence] = item
        self.bytes += item.bytes
        self.used_s = now_s
        self._stand(flow, item)

    def leave(self, item: Waiting[T], now_s: float) -> None:
        """`item` waits no longer: its `waits` is already false."""
        flow = self._flows[item.flow]
        del self._items[item.sequence]
        self.bytes -= item.bytes
        self.used_s = now_s
        flow.requests -= 1
        if not flow.requests:
            del self._busy[flow]
            flow.idle_since_s = now_s
        self._unstand(flow, item.place)

    def move(self, item: Waiting[T], place: str) -> None:
        """From now on it waits for that place."""
        flow, before = self._flows[item.flow], item.place
        item.place = place
        self._unstand(flow, before)
        self._stand(flow, item)

    def head(self, place: str) -> Waiting[T] | None:
        """The next one for the place: of those that wait for it, or for any."""
        at, key_of = self._at, self._fairness.key
        best: Waiting[T] | None = None
        best_key = None
        for flow in chain(at.get(place, ()), at.get(ANYWHERE, ()) if place else ()):
            head = flow.lanes[place].head() if place in flow.lanes else None
            if place and ANYWHERE in flow.lanes:
                loose = flow.lanes[ANYWHERE].head()
                if loose is not None and (head is None or loose.rank < head.rank):
                    head = loose
            if head is not None:
                key = key_of(flow, head.rank)
                if best_key is None or key < best_key:
                    best, best_key = head, key
        return best

    def served(self, item: Waiting[T]) -> None:
        """`item` was given its endpoint."""
        self._fairness.served(self._flows[item.flow], item.tokens)

    def corrected(self, flow: str, tokens: float) -> None:
        """A request of the flow was charged so many tokens too few."""
        known = self._flows.get(flow)
        if known is not None:
            self._fairness.corrected(known, tokens)

    def forget_idle(self, now_s: float) -> None:
        idle = [
            flow.name
            for flow in self._flows.values()
            if not flow.requests and now_s - flow.idle_since_s >= FLOW_IDLE_S
        ]
        for name in idle:
            del self._flows[name]

    def _new_flow(self, item: Waiting[T], now_s: float) -> Flow[T]:
        if len(self._flows) >= FLOWS_MAX:
            idle = next((flow for flow in self._flows.values() if not flow.requests), None)
            if idle is not None:
                del self._flows[idle.name]
            else:
                item.flow = OTHER_FLOW
        flow = self._flows.get(item.flow)
        if flow is None:
            flow = self._flows[item.flow] = Flow(item.flow)
            flow.idle_since_s = now_s
        return flow

    def _stand(self, flow: Flow[T], item: Waiting[T]) -> None:
        lane = flow.lanes.get(item.place)
        if lane is None:
            lane = flow.lanes[item.place] = Lane(item.place)
            self._at.setdefault(item.place, {})[flow] = None
        lane.add(item)

    def _unstand(self, flow: Flow[T], place: str) -> None:
        lane = flow.lanes[place]
        lane.left()
        if not lane.alive:
            del flow.lanes[place]
            flows = self._at[place]
            del flows[flow]
            if not flows:
                del self._at[place]
