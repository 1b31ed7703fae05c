"""Lets an engine run in real time: sleep what a step lasts, then hand out its tokens.

Deadlines are absolute in simulated time, so late timers do not add up; when the machine was busy
for longer than `LAG_MAX_S`, the lost time is dropped instead of caught up, because a real engine
does not run faster after a pause either.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from .cache_journal import CacheEvent
from .engine import Engine
from .sequences import EngineRequest, FinishedRequest, StepResult

LAG_MAX_S = 0.1  # real time


class Sink(Protocol):
    """Where the tokens of one sequence go."""

    def deliver(self, count: int, finished: FinishedRequest | None) -> None:
        """Called once per step with new tokens; `finished` comes with the last ones. Must not
        raise.
        """


class EngineDriver:
    """One engine, its clock and the receivers of its tokens."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], float],
        speed: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        publish: Callable[[list[CacheEvent]], None] | None = None,
    ) -> None:
        """`publish` gets what the engine's journal gathered, before the tokens of the same step."""
        if not speed > 0:
            raise ValueError(f"speed must be above 0: {speed}")
        self.engine = engine
        self.lag_dropped_s = 0.0
        self._clock = clock
        self._sleep = sleep
        self._publish = publish
        self._speed = speed
        self._origin_s = clock()
        self._sinks: dict[str, Sink] = {}
        self._work = asyncio.Event()

    def now_s(self) -> float:
        """Simulated time."""
        return (self._clock() - self._origin_s) * self._speed

    def submit(self, request: EngineRequest, sink: Sink) -> None:
        """Queues a request. ValueError as Engine.submit."""
        self.engine.submit(request, self.now_s())
        self._sinks[request.request_id] = sink
        self._work.set()

    def cancel(self, request_id: str) -> bool:
        """Drops a request whose client is gone; False when it had ended."""
        self._sinks.pop(request_id, None)
        return self.engine.cancel(request_id)

    async def run(self) -> None:
        """Steps the engine for ever."""
        engine = self.engine
        while True:
            if not engine.has_work:
                self._work.clear()
                await self._work.wait()
            result = engine.step(self._step_start_s())
            delay_s = (result.ended_s - self.now_s()) / self._speed
            await self._sleep(max(0.0, delay_s))
            self.publish_journal()
            self._deliver(result)

    def publish_journal(self) -> None:
        """Hands over what the journal has, if anybody listens."""
        journal, publish = self.engine.journal, self._publish
        if journal is not None and publish is not None and (events := journal.take()):
            publish(events)

    def _step_start_s(self) -> float:
        """Where the last step ended; now, after a rest or when too far behind."""
        last_s, now_s = self.engine.now_s, self.now_s()
        if not self.engine.num_running:
            return max(last_s, now_s)
        lag_s = now_s - last_s
        if lag_s > LAG_MAX_S * self._speed:
            self.lag_dropped_s += lag_s / self._speed
            return now_s
        return last_s

    def _deliver(self, result: StepResult) -> None:
        ends = {end.request_id: end for end in result.finished} if result.finished else {}
        for request_id, count in result.tokens:
            finished = ends.get(request_id)
            sink = self._sinks.get(request_id)
            if sink is None:
                continue
            if finished is not None:
                del self._sinks[request_id]
            sink.deliver(count, finished)
