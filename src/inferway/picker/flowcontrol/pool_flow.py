"""One pool's flow control: who goes on, who waits for what, and who is told to come back.

Problem: a pool has no room for a moment, or for long; which request goes next must follow priority,
fairness and order, without giving up the endpoint that has the request's prefix, and without
keeping an engine waiting. Model (late binding): the endpoint is chosen first, by the profile. When
it has room, the request goes; so in a pool that is not saturated this costs one comparison. Else
the second best with room is taken when going there costs less than the wait; else the request waits
for its endpoint, and after as long as the other choice would have cost it (patience.py), for any.
Whenever an endpoint may have got room, the next one for it is weighed anew and goes. Two other
modes do as the reference picker does: `gate` lets everything wait for the whole pool, `legacy` lets
nothing wait and refuses negative priorities while the pool is saturated.

Invariants: priorities are strict among those that may take the same endpoint; in late binding a
negative priority is refused at once when it would have to wait for long, others only by limits and
times to live. It outlives configurations. It weighs, charges and answers nothing: its owner does
(holding.py), with the clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import numpy as np

from inferway.picker.flowcontrol.asked import Going, Held, Refusal
from inferway.picker.flowcontrol.ceilings import Ceilings
from inferway.picker.flowcontrol.counters import FlowCounters, Left
from inferway.picker.flowcontrol.detectors import detector
from inferway.picker.flowcontrol.fairness import OUTPUT_WEIGHT
from inferway.picker.flowcontrol.ordering import order_of
from inferway.picker.flowcontrol.patience import seconds_per_cost
from inferway.picker.flowcontrol.queue import FlowQueue
from inferway.picker.flowcontrol.returning import Returning
from inferway.picker.flowcontrol.saturation import pool_saturation
from inferway.picker.flowcontrol.shedding import shed_probability
from inferway.picker.flowcontrol.slo_admission import SloAdmission
from inferway.picker.flowcontrol.waiting import ANYWHERE, FOR_EVER, Waiting
from inferway.picker.outcome import Outcome
from inferway.picker.scheduling.profile import Removal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from inferway.picker.flowcontrol.asked import Asked, Chooser
    from inferway.picker.flowcontrol.config import FlowConfig
    from inferway.picker.flowcontrol.saturation import Detector, Scraped, Table
    from inferway.picker.scheduling.contracts import Random
    from inferway.picker.scheduling.decide import Weighed

# A request is weighed again at the latest after so long: who serves its model may have changed.
_PATIENCE_MAX_S: Final = 5.0
# One that could go nowhere, although something had room, is not tried again sooner.
_PAUSE_S: Final = 0.05
NO_ROOM: Final = "no room"
# Envoy hears of a pool's first endpoint, and checks its health, a moment after we do.
SETTLE_S: Final = 1.0
_COLLECT_EVERY_S: Final = 10.0
_ROOMS_MAX: Final = 16  # endpoints with room that are looked at for those that take any


class PoolFlow:
    """`bind` before anything else, and again after every configuration. `held` is where it enters
    what waits, by connection and stream.
    """

    def __init__(
        self,
        name: str,
        config: FlowConfig,
        held: dict[tuple[int, int], tuple[PoolFlow, Held]],
    ) -> None:
        self.name = name
        self._held = held
        self.queue: FlowQueue[Asked] = FlowQueue(config)
        self.counters = FlowCounters()
        self.returning = Returning(config)
        self.turned_away: list[tuple[Held, Refusal]] = []  # waited; the owner takes them from here
        self._config = config
        self._detector: Detector = detector(config.detector)
        self._silent: deque[Held] = deque()  # streams that have not been told that they wait
        self._empty = False
        self._settled_s = 0.0  # from then on those go that waited for an endpoint at all
        self._collect_s = 0.0

    def bind(
        self,
        config: FlowConfig,
        table: Table,
        chooser: Chooser,
        *,
        priorities: Iterable[int],
        placed: Mapping[int, int],
        random: Random,
        now_s: float,
    ) -> None:
        """Takes a configuration into force. `placed` counts requests by priority, and goes on."""
        if config.detector != self._config.detector:
            self._detector = detector(config.detector)
        if config != self._config:
            self.queue.reconfigure(config, now_s)
            self.returning.reconfigure(config)
        self._config = config
        self.slo = SloAdmission(config.slo_admission)
        self._table, self._chooser, self._random = table, chooser, random
        self._placed = placed
        self._detector.bind(table)
        self._saturation = self._detector.saturation
        self._ceilings = Ceilings(config.ceiling, {*priorities, *config.bands})
        same = self._ceilings.same_for_all
        self._same = None if same is None else same * self._detector.full_ratio
        self._seconds = seconds_per_cost(chooser.profile)
        # Whether room at the chosen endpoint is all that counts.
        self.direct = config.mode == "late-binding" and config.shedding is None
        self._watch_endpoints(now_s)

    # --- a new request -----------------------------------------------------------------------

    def has_room(self, row: int, priority: int, now_s: float) -> bool:
        """Whether the endpoint takes a request of that priority. On the path of every request."""
        limit = self._same
        return self._saturation(row, now_s) < (self._limit(priority) if limit is None else limit)

    def decide(
        self, asked: Asked, weighed: Weighed, rows: list[int], now_s: float
    ) -> Going | Refusal | Held:
        """What becomes of a new request. `rows` is the profile's choice, which may be empty."""
        config, priority = self._config, asked.priority
        if not rows:
            return self._without_endpoint(asked, weighed, now_s)
        if config.mode == "legacy":
            if priority < 0 and self.saturation(now_s) >= 1.0:
                return self._refuse(asked, Outcome.SHED, now_s)
            return Going(weighed, rows)
        if priority < 0 and config.shedding is not None:
            probability = shed_probability(config.shedding, weighed.endpoints)
            if probability > 0.0 and self._random.random() < probability:
                return self._refuse(asked, Outcome.SHED, now_s)
        if config.mode == "gate":
            if not self.queue.ahead_of(priority) and self._gate_is_open(priority, now_s):
                return self._through_gate(weighed, rows, now_s)
            return self._wait(asked, weighed, ANYWHERE, FOR_EVER, now_s)
        if self.has_room(rows[0], priority, now_s):
            return Going(weighed, rows)
        return self._bind_late(asked, weighed, rows, now_s)

    def _bind_late(
        self, asked: Asked, weighed: Weighed, rows: list[int], now_s: float
    ) -> Going | Refusal | Held:
        """The chosen endpoint has no room."""
        best, costs, priority = rows[0], weighed.costs, asked.priority
        place = self._table.addresses[best]
        roomy = self._narrowed(weighed, self._limit(priority), now_s)
        if roomy is not None:
            others = self._chooser.choose_again(roomy)
            gap_s = self._worth_s(costs.item(others[0]) - costs.item(best))
            if gap_s <= self._wait_for_s(place, priority):
                return Going(roomy, others)
            return self._wait(asked, weighed, place, now_s + gap_s, now_s)
        gap_s = FOR_EVER
        if len(rows) > 1:
            gap_s = self._worth_s(costs.item(rows[1]) - costs.item(best))
        may_refuse = priority < 0
        return self._wait(asked, weighed, place, now_s + gap_s, now_s, may_refuse=may_refuse)

    def _without_endpoint(self, asked: Asked, weighed: Weighed, now_s: float) -> Refusal | Held:
        self._chooser.nobody(weighed)
        self._watch_endpoints(now_s)
        if not self._empty or not self._config.no_endpoint_ttl_s:
            self.counters.count(asked.priority, Left.REJECTED_NO_ENDPOINTS, 0.0)
            return Refusal(Outcome.NO_ENDPOINT)
        return self._wait(asked, weighed, ANYWHERE, FOR_EVER, now_s)

    def _wait(
        self,
        asked: Asked,
        weighed: Weighed,
        place: str,
        loose_s: float,
        now_s: float,
        *,
        may_refuse: bool = False,
    ) -> Refusal | Held:
        """Lets it wait; a refusal when it may not."""
        pick = asked.pick
        arrived_s = now_s
        if pick.repeated:  # it waited before the connection was lost, or in another picker
            arrived_s = min(pick.received_ns * 1e-9, now_s)
        else:
            first_s = self.returning.arrival(asked, now_s, may_refuse=may_refuse)
            if isinstance(first_s, Refusal):
                self.counters.count(asked.priority, Left.REJECTED_CAPACITY, 0.0)
                return first_s
            if first_s is not None:
                arrived_s = first_s
            elif may_refuse and self.returning.is_too_long(
                asked.priority, self._waiting(asked.priority)
            ):
                return self._refuse(asked, Outcome.SHED, now_s)
        item = self._item(asked, weighed, arrived_s, now_s)
        if loose_s > now_s:
            item.place, item.loose_s = place, min(loose_s, now_s + _PATIENCE_MAX_S)
        displaced = self.queue.enter(item, now_s)
        if displaced is None:
            return self._refuse(asked, Outcome.QUEUE_FULL, now_s)
        self._held[asked.connection, pick.stream] = self, item
        for other in displaced:
            self._turn_away(other, Outcome.DISPLACED, Left.EVICTED_OTHER, now_s)
        if pick.keeps_alive and pick.streamed:
            self._silent.append(item)
        return item

    def _item(self, asked: Asked, weighed: Weighed, arrived_s: float, now_s: float) -> Held:
        """A repetition's time to live goes on; who was told to come back starts a new wait."""
        pick, request = asked.pick, weighed.request
        expires_s = self._expires_s(asked, arrived_s if pick.repeated else now_s)
        return Waiting(
            asked,
            priority=asked.priority,
            flow=pick.fairness or pick.headers.get(self._config.identity_header, ""),
            size_bytes=pick.body_bytes,
            tokens=request.prompt_tokens + OUTPUT_WEIGHT * request.output_tokens,
            arrived_s=arrived_s,
            expires_s=expires_s,
            order=order_of(
                self._config.band(asked.priority).ordering,
                arrived_s=arrived_s,
                expires_s=expires_s,
                slo_ttft_ms=pick.slo_ttft_ms,
            ),
        )

    # --- room ----------------------------------------------------------------------------------

    def next(self, row: int, now_s: float) -> Held | None:
        """The next one that may take the endpoint, if that has room for it."""
        if now_s < self._settled_s or not self._table.view().ready[row]:
            return None
        if self._config.mode != "late-binding":
            return self.queue.head(ANYWHERE, lambda p: self._gate_is_open(p, now_s))
        saturation = self._saturation(row, now_s)
        return self.queue.head(self._table.addresses[row], lambda p: saturation < self._limit(p))

    def going(self, item: Held, weighed: Weighed, now_s: float) -> Going | None:
        """Where it goes now; None: it waits on, for another place."""
        if self._config.mode != "late-binding":
            return self._through_gate(weighed, self._chooser.choose(weighed), now_s)
        costs, candidates = weighed.costs, weighed.candidates
        standing = costs if candidates is None else np.where(candidates, costs, FOR_EVER)
        best = int(standing.argmin())
        roomy = self._narrowed(weighed, self._limit(item.priority), now_s)
        if roomy is None:
            others = np.delete(standing, best)
            second = float(others.min()) if len(others) else FOR_EVER
            left_s = self._worth_s(second - standing.item(best))
        else:
            rows = self._chooser.choose(roomy)
            gap_s = self._worth_s(costs.item(rows[0]) - costs.item(best))
            left_s = item.entered_s + gap_s - now_s
            if left_s <= 0.0 or rows[0] == best:
                return Going(roomy, rows)
        loose_s = now_s + min(max(left_s, _PAUSE_S), _PATIENCE_MAX_S)
        self.queue.bind(item, self._table.addresses[best], loose_s)
        return None

    def sent(self, item: Held, now_s: float) -> float:
        """It was placed: it waits no longer. Returns how long it has, in seconds."""
        self.queue.served(item)
        return self._leave(item, Left.DISPATCHED, now_s)

    def rows_with_room(self, now_s: float) -> Iterator[int]:
        """Rows for which something waits. For the moments when anything may have changed."""
        rows = self._table.rows
        for place in self.queue.places():
            if place == ANYWHERE:
                full = self._detector.saturations(now_s) >= self._detector.full_ratio
                rooms = np.flatnonzero(self._table.view().ready & ~full)
                yield from rooms[:_ROOMS_MAX].tolist()
            elif place in rows:
                yield rows[place]

    def row(self, address: str) -> int | None:
        """Where the address stands; None: not in this pool."""
        return self._table.rows.get(address)

    def scraped(self, row: int, scraped: Scraped, now_s: float) -> None:
        self._detector.scraped(row, scraped, now_s)

    # --- leaving -------------------------------------------------------------------------------

    def forget(self, item: Held, now_s: float) -> None:
        """It will be asked for again, if at all."""
        self.queue.leave(item, now_s)
        self._held.pop((item.what.connection, item.what.pick.stream), None)

    def client_left(self, item: Held, now_s: float) -> None:
        self._leave(item, Left.EVICTED_CONTEXT_CANCELLED, now_s)

    def refused(self, item: Held, now_s: float) -> None:
        """It cannot be placed, or placing it failed; its owner answers."""
        self._leave(item, Left.EVICTED_OTHER, now_s)

    def end(self, outcome: Outcome, now_s: float) -> None:
        """Turns away all that waits."""
        for item in self.queue.items():
            self.queue.leave(item, now_s)
            self._turn_away(item, outcome, Left.EVICTED_OTHER, now_s)

    def tick(self, now_s: float) -> None:
        """What time alone does: times to live end, and patience."""
        self._watch_endpoints(now_s)
        for item in self.queue.expired(now_s):
            self.queue.leave(item, now_s)
            if self._empty:
                self._turn_away(item, Outcome.NO_ENDPOINT, Left.EVICTED_NO_ENDPOINTS, now_s)
            else:
                self._turn_away(item, Outcome.QUEUE_TIMEOUT, Left.EVICTED_TTL, now_s)
        self.queue.loosen(now_s)

    def sample(self, now_s: float) -> None:
        """Takes rates, and forgets what has been idle. To be called about once a second."""
        self.returning.rates.sample(self._placed, now_s)
        if now_s >= self._collect_s:
            self.queue.collect(now_s)
            self._collect_s = now_s + _COLLECT_EVERY_S

    def to_tell(self, now_s: float) -> list[Held]:
        """Streams that have waited so long that the client must hear something. Each once."""
        told = []
        silent, after_s = self._silent, self._config.keepalive_s
        while silent and (not silent[0].waits or now_s - silent[0].entered_s >= after_s):
            item = silent.popleft()
            if item.waits:
                told.append(item)
        return told

    @property
    def keepalive_ms(self) -> int:
        return int(self._config.keepalive_s * 1_000)

    def saturation(self, now_s: float) -> float:
        """Of the pool."""
        return pool_saturation(self._detector.saturations(now_s), self._table.view().ready)

    # --- inside --------------------------------------------------------------------------------

    def _waiting(self, priority: int) -> int:
        band = self.queue.band(priority)
        return band.requests if band is not None else 0

    def _limit(self, priority: int) -> float:
        return self._ceilings.of(priority) * self._detector.full_ratio

    def _narrowed(self, weighed: Weighed, limit: float, now_s: float) -> Weighed | None:
        """With those candidates only that have room; None when none has."""
        room = ~(self._detector.saturations(now_s) >= limit)
        candidates = room if weighed.candidates is None else room & weighed.candidates
        if not candidates.any():
            return None
        removals = (*weighed.removals, Removal(NO_ROOM, room))
        return weighed._replace(candidates=candidates, removals=removals)

    def _gate_is_open(self, priority: int, now_s: float) -> bool:
        if self._config.mode == "legacy":  # only what found no endpoint waits
            return True
        return self.saturation(now_s) < self._ceilings.of(priority)

    def _through_gate(self, weighed: Weighed, rows: list[int], now_s: float) -> Going:
        """Endpoints that are full are passed over, unless all are."""
        roomy = self._narrowed(weighed, self._detector.full_ratio, now_s)
        if roomy is None:
            return Going(weighed, rows)
        return Going(roomy, self._chooser.choose_again(roomy))

    def _worth_s(self, gap: float) -> float:
        """Seconds that a difference in cost is worth waiting; for ever when there is no other."""
        return FOR_EVER if gap == FOR_EVER else max(gap * self._seconds, 0.0)

    def _wait_for_s(self, place: str, priority: int) -> float:
        """How long a newcomer would wait for the endpoint."""
        ahead = self.queue.ahead_at(place, priority) + 1
        return ahead * len(self._table.addresses) / self.returning.rates.whole

    def _expires_s(self, asked: Asked, since_s: float) -> float:
        config = self._config
        ttl_s = config.band(asked.priority).ttl_s
        if self._empty:
            ttl_s = config.no_endpoint_ttl_s
            if not ttl_s:
                return since_s
        elif ttl_s is None:
            ttl_s = config.ttl_s
        wished_s = asked.pick.ttl_ms * 1e-3
        if wished_s and (not ttl_s or wished_s < ttl_s):
            ttl_s = wished_s
        return since_s + ttl_s if ttl_s else FOR_EVER

    def _watch_endpoints(self, now_s: float) -> None:
        """Times to live start over when the pool loses its last endpoint, or gets its first; who
        waits for an endpoint that is no longer ready takes any.
        """
        rows, ready = self._table.rows, self._table.view().ready
        empty = not bool(ready.any())
        if empty != self._empty:
            self._empty = empty
            self._settled_s = 0.0 if empty or not len(self.queue) else now_s + SETTLE_S
            for item in self.queue.items():
                self.queue.expire_at(item, self._expires_s(item.what, now_s))
        gone = [p for p in self.queue.places() if p and (p not in rows or not ready[rows[p]])]
        if gone:
            for item in self.queue.items():
                if item.place in gone:
                    self.queue.bind(item, ANYWHERE, FOR_EVER)

    def _refuse(self, asked: Asked, outcome: Outcome, now_s: float) -> Refusal:
        """A newcomer."""
        self.counters.count(asked.priority, Left.REJECTED_CAPACITY, 0.0)
        waiting = self._waiting(asked.priority)
        return self.returning.refusal(asked, outcome, waiting=waiting, arrived_s=now_s, now_s=now_s)

    def _turn_away(self, item: Held, outcome: Outcome, left: Left, now_s: float) -> None:
        """One that waited, and has left the queue."""
        self._held.pop((item.what.connection, item.what.pick.stream), None)
        self.counters.count(item.priority, left, now_s - item.entered_s)
        refusal = Refusal(outcome)
        if outcome in (Outcome.QUEUE_TIMEOUT, Outcome.DISPLACED):
            refusal = self.returning.refusal(
                item.what,
                outcome,
                waiting=self._waiting(item.priority),
                arrived_s=item.arrived_s,
                now_s=now_s,
            )
        self.turned_away.append((item, refusal))

    def _leave(self, item: Held, left: Left, now_s: float) -> float:
        waited_s = now_s - item.entered_s
        if item.waits:
            self.forget(item, now_s)
            self.counters.count(item.priority, left, waited_s)
        return waited_s
