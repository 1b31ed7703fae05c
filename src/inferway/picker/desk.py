"""Where admitted frames take effect: picks are decided, streams are accounted for.

Problem: frames of all filters, configurations and readings meet in one place, and each frame must
count once. Model: `PickDesk` owns the data layer and the runtime in force; `handle` applies a
batch in arrival order; a request that must wait is held (holding.py) and answered later, on its own
connection. Invariants: one answer per PICK, whatever happens inside, unless its client leaves
first; a stream is charged exactly while its connection holds it; a failing policy costs its own
request only. What an ended stream teaches (statistics, estimates) waits for `settle`, so that no
pick waits for it. It runs on one thread and neither waits nor logs, except for the first failure of
a configuration and for plugins that begin to rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inferway._native import Done, Fault, First, Open, Pick
from inferway.observability.logging import get_logger
from inferway.picker.explain import CLIENT_LEFT, Ring
from inferway.picker.flowcontrol.asked import Refusal
from inferway.picker.flowcontrol.waiting import FOR_EVER
from inferway.picker.holding import Holding
from inferway.picker.outcome import Outcome
from inferway.picker.protocol.conversation import Release
from inferway.picker.runtime import PICKED, Runtime
from inferway.picker.scheduling.profiles import Profiles
from inferway.picker.scheduling.sources import NoPlugins

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.config import PickerConfig
    from inferway.picker.datalayer.accounting import Charge
    from inferway.picker.datalayer.engines import Reading
    from inferway.picker.datalayer.models import Served
    from inferway.picker.datalayer.state import DataLayer
    from inferway.picker.flowcontrol.asked import FlowRequest
    from inferway.picker.metrics import ModelCounters, PickerMetrics
    from inferway.picker.protocol.conversation import Admitted
    from inferway.picker.scheduling.contracts import Random
    from inferway.picker.scheduling.sources import PluginSource

STREAMS_MAX: Final = 1_000_000  # open at once, over all filters; about 700 bytes each


class PickDesk:
    """Serves `server.PickServer`. `clock` counts seconds monotonically.

    `picked(now_s)` is called once per batch with picks, `answered(address)` when an endpoint has
    answered a request to its end, `send(connection, frames)` with answers that come later.
    """

    def __init__(
        self,
        layer: DataLayer,
        metrics: PickerMetrics,
        config: PickerConfig,
        *,
        clock: Callable[[], float],
        random_of: Callable[[str], Random],
        picked: Callable[[float], None],
        answered: Callable[[str], None],
        send: Callable[[int, bytes], None],
        streams_max: int = STREAMS_MAX,
        plugins: PluginSource | None = None,
    ) -> None:
        self.layer = layer
        self._metrics = metrics
        self._clock = clock
        self._random_of = random_of
        self._picked = picked
        self._answered = answered
        self._streams_max = streams_max
        self._streams: dict[int, dict[int, ModelCounters]] = {}
        self._ended: list[tuple[ModelCounters, Charge | None, Done]] = []
        self._open = 0
        self._failure_told = False
        self._log = get_logger("pick-desk")
        self.profiles = Profiles(plugins or NoPlugins(), clock, self._plugin_failed)
        self.ring = Ring(config.explain, clock)
        self.holding = Holding(
            layer.in_flight, send=send, opened=self._opened, failed=self._tell_failure
        )
        self.runtime = self._new_runtime(config)

    @property
    def open_streams(self) -> int:
        """Streams that hold a charge."""
        return self._open

    def configure(self, config: PickerConfig) -> None:
        """Swaps in a new runtime. ValueError, and the old one stays, when it cannot be built."""
        self.runtime = self._new_runtime(config)
        self._failure_told = False

    def _plugin_failed(self, pool: str, plugin: str, problem: str) -> None:
        self._log.warning("plugin_failed", pool=pool, plugin=plugin, problem=problem)

    def handle(self, connection: int, frames: list[Admitted]) -> list[bytes]:
        """Applies the frames in order; returns the answers to the picks among them."""
        now_s = self._clock()
        answers: list[bytes] = []
        streams = self._streams.get(connection)
        if streams is None:
            streams = self._streams[connection] = {}
        in_flight, health = self.layer.in_flight, self.layer.health
        for frame in frames:
            if type(frame) is Pick:
                answer = self._pick(connection, streams, frame, now_s)
                if answer:
                    answers.append(answer)
            elif type(frame) is Done:
                self._done(connection, streams, frame, now_s)
            elif type(frame) is First:
                charge = in_flight.first(connection, frame.stream)
                if health.watched and charge is not None:
                    stream = (connection, frame.stream)
                    health.began(charge.address, stream, status=frame.status, now_s=now_s)
            elif type(frame) is Fault:
                health.attempt_failed(
                    frame.endpoint,
                    cause=frame.cause,
                    status=frame.status,
                    retry_after_s=frame.retry_after_ms / 1_000,
                    now_s=now_s,
                )
            elif type(frame) is Release:
                charge = in_flight.done(connection, frame.stream)
                self._forget(streams, frame.stream)
                if self.holding.busy:
                    self.holding.ended(connection, frame.stream, charge, None, now_s)
            elif type(frame) is Open:
                in_flight.replay(connection, frame)
                streams[frame.stream] = counters = self._metrics.model(frame.pool, frame.model)
                counters.running += 1
                self._open += 1
        if self.holding.busy:
            answers += self.holding.flush(connection)
            self._picked(now_s)
        elif answers:
            self._picked(now_s)
        return answers

    def settle(self) -> None:
        """Learns from streams that ended. To be called when the answers of `handle` are sent."""
        ended, self._ended = self._ended, []
        now_s = self._clock() if ended else 0.0
        for counters, charge, done in ended:
            counters.ended(done)
            if done.end != 0 or done.status >= 400:
                continue
            endpoint = done.endpoint
            if endpoint:
                self._answered(endpoint)
            if charge is None:
                continue
            if done.usage:
                self.layer.observe_usage(
                    charge.model,
                    end=done.end,
                    prompt_bytes=charge.prompt_bytes,
                    prompt_tokens=done.prompt_tokens,
                    completion_tokens=done.completion_tokens,
                )
                if charge.prompt is not None:
                    self.layer.kv_events.ended(charge, done, charge.prompt, now_s)
            self.layer.observe_latency(charge, done, now_s)

    def drop(self, connection: int) -> None:
        """Releases everything that was charged for the connection."""
        streams = self._streams.pop(connection, {})
        for counters in streams.values():
            counters.running -= 1
        self._open -= len(streams)
        self.layer.in_flight.drop_filter(connection)
        self.ring.dropped(connection)
        self.holding.drop(connection, self._clock())

    # --- requests that wait ------------------------------------------------------------------

    def tick_in_s(self) -> float:
        """In how many seconds `tick` is due; inf while nothing waits."""
        if not self.holding.flows.held:
            return FOR_EVER
        now_s = self._clock()
        return self.holding.next_s(now_s) - now_s

    def tick(self) -> None:
        """What time alone does to requests that wait."""
        self.holding.tick(self._clock())
        self.holding.flush()

    def beat(self) -> None:
        """To be called at the pace of heartbeats."""
        self.holding.beat(self._clock())

    def end(self) -> None:
        """The picker stops: answers what waits."""
        self.holding.end(self._clock())

    # --- the scraper's `Sink` ----------------------------------------------------------------

    def own_requests(self, address: str) -> float:
        return self.layer.own_requests(address)

    def scraped(self, address: str, reading: Reading, own_requests: float, now_s: float) -> None:
        self.layer.scraped(address, reading, own_requests, now_s)
        self.holding.scraped(address, reading, own_requests, now_s)

    def models(self, address: str, answer: Served) -> None:
        self.layer.models(address, answer)

    def reachable(self, address: str, reachable: bool) -> None:
        self.layer.reachable(address, reachable)

    # --- inside ------------------------------------------------------------------------------

    def _new_runtime(self, config: PickerConfig) -> Runtime:
        now_s = self._clock()
        runtime = Runtime(
            config,
            self.layer,
            self._metrics,
            self._random_of,
            self.profiles,
            self.ring,
            self.holding.flows,
            now_s,
        )
        self.holding.take_force(runtime, now_s)
        return runtime

    def _pick(
        self, connection: int, streams: dict[int, ModelCounters], pick: Pick, now_s: float
    ) -> bytes:
        if self._open >= self._streams_max:
            return self.runtime.refuse(Refusal(Outcome.OVERLOADED), pick)
        try:
            outcome, answer, model = self.runtime.pick(connection, pick, now_s)
        except Exception:  # noqa: BLE001 - a request's boundary: policies are users' code
            self.layer.in_flight.done(connection, pick.stream)
            self._tell_failure(pick)
            return self.runtime.refuse(Refusal(Outcome.FAILED), pick)
        if outcome is PICKED:
            counters = self._metrics.model(pick.pool, model)
            counters.requests += 1
            counters.running += 1
            streams[pick.stream] = counters
            self._open += 1
        elif outcome is None:
            self.holding.turned_away(pick.pool)
        return answer

    def _opened(self, connection: int, pick: FlowRequest, model: str) -> None:
        """A request that waited was placed."""
        counters = self._metrics.model(pick.pool, model)
        counters.requests += 1
        counters.running += 1
        self._streams[connection][pick.stream] = counters
        self._open += 1

    def _tell_failure(self, pick: FlowRequest) -> None:
        """Logs the exception that is being handled, the first of a configuration."""
        if not self._failure_told:
            self._failure_told = True
            self._log.exception("pick_failed", pool=pick.pool, request_id=pick.request_id)

    def _done(
        self, connection: int, streams: dict[int, ModelCounters], done: Done, now_s: float
    ) -> None:
        charge = self.layer.in_flight.done(connection, done.stream)
        health = self.layer.health
        if health.watched or done.fault:
            served = done.endpoint
            health.ended(
                served if charge is None else charge.address,
                served,
                (connection, done.stream),
                end=done.end,
                status=done.status,
                fault=done.fault,
                now_s=now_s,
            )
        counters = self._forget(streams, done.stream)
        self.ring.ended(connection, done)
        if counters is not None:
            self._ended.append((counters, charge, done))
        if self.holding.busy:
            held = self.holding.flows.held.get((connection, done.stream))
            if held is not None:
                (_, pick, model, priority), since_s = held[1].what, held[1].entered_s
                self.ring.refused(pick, model, priority, CLIENT_LEFT, since_s)
            self.holding.ended(connection, done.stream, charge, done, now_s)

    def _forget(self, streams: dict[int, ModelCounters], stream: int) -> ModelCounters | None:
        counters = streams.pop(stream, None)
        if counters is not None:
            counters.running -= 1
            self._open -= 1
        return counters
