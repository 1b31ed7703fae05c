"""Requests that wait, over all pools: who holds them, and how they are answered later.

Problem: a waiting request is answered because of something else: another stream ended, an engine
was scraped, time passed, a configuration came; and it may belong to any filter. Model: `Flows`
keeps the flow control of each pool across configurations, and every waiting request by its
connection and stream; `Holding` lets the pools' next ones go wherever there may be room, and
collects the answers by connection until they are flushed. Invariants: a request that waits is
answered once or has left (its client, its connection); one that fails costs itself only. It reads
no clock, and costs nothing while nothing waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from inferway._native import encode_queued
from inferway.picker.config import BandStatus, FlowStatus
from inferway.picker.flowcontrol.asked import Refusal
from inferway.picker.flowcontrol.fairness import OUTPUT_WEIGHT
from inferway.picker.flowcontrol.pool_flow import PoolFlow
from inferway.picker.flowcontrol.saturation import Scraped
from inferway.picker.flowcontrol.waiting import FOR_EVER
from inferway.picker.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from inferway._native import Done
    from inferway.picker.config import PoolConfig
    from inferway.picker.datalayer.accounting import Charge, InFlight
    from inferway.picker.datalayer.engines import Reading
    from inferway.picker.flowcontrol.asked import FlowRequest, Held
    from inferway.picker.flowcontrol.counters import FlowCounters
    from inferway.picker.runtime import PoolRuntime, Runtime

PUMP_MAX: Final = 64  # requests that one event sends on for one endpoint; the next tick goes on
TICK_S: Final = 0.1  # how often everything is looked at while something waits
_TICK_MIN_S: Final = 0.001
_SAMPLE_S: Final = 0.5

Key = tuple[int, int]  # connection and stream


class Flows:
    """Flow control by pool name, and everything that waits."""

    def __init__(self) -> None:
        self.pools: dict[str, PoolFlow] = {}
        self.held: dict[Key, tuple[PoolFlow, Held]] = {}
        self.given_up: list[PoolFlow] = []  # of pools that are gone; something may wait in them

    def keep(self, pools: Iterable[PoolConfig]) -> None:
        """From now on there are these pools."""
        before = self.pools
        self.pools = {
            pool.name: before.get(pool.name) or PoolFlow(pool.name, pool.flow, self.held)
            for pool in pools
        }
        self.given_up += [flow for name, flow in before.items() if name not in self.pools]


class _Sent(NamedTuple):
    """One that waited and runs."""

    flow: PoolFlow
    item: Held


class Holding:
    """`opened(connection, pick, model)` is called when one that waited was placed,
    `failed(pick)` from an exception handler when it could not be.
    """

    def __init__(
        self,
        in_flight: InFlight,
        *,
        send: Callable[[int, bytes], None],
        opened: Callable[[int, FlowRequest, str], None],
        failed: Callable[[FlowRequest], None],
    ) -> None:
        self.flows = Flows()
        self._in_flight = in_flight
        self._send, self._opened, self._failed = send, opened, failed
        self._sent: dict[Key, _Sent] = {}
        self._late: dict[int, list[bytes]] = {}
        self._sample_s = 0.0

    @property
    def busy(self) -> bool:
        """Whether frames concern anything here, or something is to be flushed."""
        return bool(self.flows.held or self._sent or self._late)

    def next_s(self, now_s: float) -> float:
        """When `tick` is due; inf while nothing waits."""
        if not self.flows.held:
            return FOR_EVER
        due_s = min(flow.queue.next_s() for flow in self.flows.pools.values())
        return max(min(due_s, now_s + TICK_S), now_s + _TICK_MIN_S)

    def take_force(self, runtime: Runtime, now_s: float) -> None:
        """What waits goes by this runtime from now on."""
        self._runtime = runtime
        for flow in self.flows.given_up:
            flow.end(Outcome.POOL_NOT_FOUND, now_s)
            self._answer_turned_away(flow)
        self.flows.given_up.clear()
        if self.flows.held:
            self.tick(now_s)
        self.flush()

    def ended(
        self, connection: int, stream: int, charge: Charge | None, done: Done | None, now_s: float
    ) -> None:
        """A stream has ended, or its client has left while it waited. No `done`: it is asked for
        anew.
        """
        key = connection, stream
        held = self.flows.held.get(key)
        if held is not None:
            flow, item = held
            if done is None:
                flow.forget(item, now_s)
            else:
                flow.client_left(item, now_s)
        sent = self._sent.pop(key, None)
        if sent is not None and done is not None and done.usage:
            took = done.prompt_tokens + OUTPUT_WEIGHT * done.completion_tokens
            item = sent.item
            sent.flow.queue.corrected(item.priority, item.flow, took - item.tokens)
        if charge is not None and self.flows.held:
            for table, row in charge.site.places:
                self._pump(table.pool, row, now_s)

    def drop(self, connection: int, now_s: float) -> None:
        """The connection is gone: what it asked for is asked for again, or never."""
        for flow, item in [held for key, held in self.flows.held.items() if key[0] == connection]:
            flow.forget(item, now_s)
        self._sent = {key: sent for key, sent in self._sent.items() if key[0] != connection}
        self._late.pop(connection, None)

    def scraped(self, address: str, reading: Reading, own_requests: float, now_s: float) -> None:
        """An engine has told how it is."""
        scraped = Scraped(reading.waiting, reading.running, reading.kv_usage_ratio, own_requests)
        for name, flow in self.flows.pools.items():
            row = flow.row(address)
            if row is not None:
                flow.scraped(row, scraped, now_s)
                if flow.queue.requests:
                    self._pump(name, row, now_s)
        self.flush()

    def tick(self, now_s: float) -> None:
        """What time alone does. To be called when `next_s` says so."""
        for name, flow in self.flows.pools.items():
            if not flow.queue.requests:
                continue
            flow.tick(now_s)
            self._answer_turned_away(flow)
            for row in flow.rows_with_room(now_s):
                self._pump(name, row, now_s)
            for item in flow.to_tell(now_s):
                connection, pick = item.what.connection, item.what.pick
                self._later(connection, encode_queued(pick.stream, flow.keepalive_ms))

    def beat(self, now_s: float) -> None:
        """Takes rates. To be called all the time, several times a second or more seldom."""
        if now_s >= self._sample_s:
            self._sample_s = now_s + _SAMPLE_S
            for flow in self.flows.pools.values():
                flow.sample(now_s)

    def end(self, now_s: float) -> None:
        """The picker stops: everyone who waits is told."""
        for flow in self.flows.pools.values():
            flow.end(Outcome.SHUTTING_DOWN, now_s)
            self._answer_turned_away(flow)
        self.flush()

    def status(self, pool: str, now_s: float) -> FlowStatus:
        """What waits for a pool. KeyError when there is no such pool."""
        flow = self.flows.pools[pool]
        config = flow.queue.config
        return FlowStatus(
            saturation=flow.saturation(now_s),
            bands=tuple(
                BandStatus(
                    priority=band.priority,
                    requests=band.requests,
                    bytes=band.bytes,
                    requests_max=band.config.requests_max,
                    bytes_max=band.config.bytes_max,
                    flows=dict(band.by_flow()),
                )
                for band in flow.queue.bands()
            ),
            requests_max=config.requests_max,
            bytes_max=config.bytes_max,
            tickets=len(flow.returning),
        )

    def counters(self) -> dict[str, FlowCounters]:
        """What is counted, by pool."""
        return {name: flow.counters for name, flow in self.flows.pools.items()}

    def turned_away(self, pool: str) -> None:
        """A newcomer may have cost others their place."""
        flow = self.flows.pools.get(pool)
        if flow is not None and flow.turned_away:
            self._answer_turned_away(flow)

    def flush(self, own: int | None = None) -> list[bytes]:
        """Sends the late answers; those for the connection `own` are returned instead."""
        if not self._late:
            return []
        late, self._late = self._late, {}
        returned = late.pop(own, []) if own is not None else []
        for connection, frames in late.items():
            self._send(connection, b"".join(frames))
        return returned

    def _pump(self, pool: str, row: int, now_s: float) -> None:
        """Sends on who may take the endpoint, as long as it has room."""
        runtime = self._runtime.pools[pool]
        for _ in range(PUMP_MAX):
            item = runtime.flow.next(row, now_s)
            if item is None:
                return
            self._send_on(runtime, item, now_s)

    def _send_on(self, runtime: PoolRuntime, item: Held, now_s: float) -> None:
        connection, pick, model, _ = item.what
        try:
            answer = runtime.send_on(item, now_s)
        except Exception:  # noqa: BLE001 - a request's boundary: policies are users' code
            self._in_flight.done(connection, pick.stream)
            runtime.flow.refused(item, now_s)
            self._failed(pick)
            answer = Refusal(Outcome.FAILED)
        if isinstance(answer, Refusal):
            frame = self._runtime.refuse(answer, pick, model, item.entered_s)
            self._later(connection, frame)
        elif answer is not None:
            self._sent[connection, pick.stream] = _Sent(runtime.flow, item)
            self._opened(connection, pick, model)
            self._later(connection, answer)

    def _answer_turned_away(self, flow: PoolFlow) -> None:
        turned_away, flow.turned_away = flow.turned_away, []
        for item, refusal in turned_away:
            asked = item.what
            frame = self._runtime.refuse(refusal, asked.pick, asked.model, item.entered_s)
            self._later(asked.connection, frame)

    def _later(self, connection: int, frame: bytes) -> None:
        self._late.setdefault(connection, []).append(frame)
