"""The driver on a clock that only sleeping and busy receivers advance."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from inferway.simulator.driver import LAG_MAX_S, EngineDriver
from inferway.simulator.engine import Engine
from inferway.simulator.parameters import parameters_named
from inferway.simulator.sequences import EngineRequest, FinishedRequest

H100 = replace(parameters_named("llama-3-8b-h100"), jitter_sigma=0.0, ingest_s=0.0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self.now_s += duration_s
        await asyncio.sleep(0)


class Receiver:
    def __init__(self, on_tokens: Callable[[], None] = lambda: None) -> None:
        self.tokens = 0
        self.ended: asyncio.Future[FinishedRequest] = asyncio.get_running_loop().create_future()
        self._on_tokens = on_tokens

    def deliver(self, count: int, finished: FinishedRequest | None) -> None:
        self.tokens += count
        self._on_tokens()
        if finished is not None:
            self.ended.set_result(finished)


@asynccontextmanager
async def driven(clock: Clock, speed: float = 1.0) -> AsyncIterator[EngineDriver]:
    driver = EngineDriver(Engine(H100), clock=clock, speed=speed, sleep=clock.sleep)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(driver.run())
        yield driver
        task.cancel()


async def test_sleeps_what_the_engine_says_divided_by_the_speed() -> None:
    for speed in (1.0, 10.0):
        clock = Clock()
        async with driven(clock, speed) as driver:
            receiver = Receiver()
            driver.submit(EngineRequest("a", 160, 5), receiver)
            end = await receiver.ended
        assert receiver.tokens == 5
        assert sum(clock.slept_s) == pytest.approx(end.finished_s / speed)
        assert end.finished_s == pytest.approx(
            H100.step_s(prefill_tokens=160, decode_tokens=0, attention_products=160 * 80)
            + sum(
                H100.step_s(prefill_tokens=0, decode_tokens=1, context_tokens=160 + i)
                for i in range(4)
            )
        )


async def test_small_delays_do_not_add_up() -> None:
    clock = Clock()

    def late() -> None:
        clock.now_s += 0.002

    async with driven(clock) as driver:
        receiver = Receiver(late)
        driver.submit(EngineRequest("a", 160, 50), receiver)
        end = await receiver.ended
    assert sum(clock.slept_s) == pytest.approx(end.finished_s - 49 * 0.002)
    assert driver.lag_dropped_s == 0.0


async def test_a_long_pause_is_not_caught_up() -> None:
    clock = Clock()
    pauses = iter([5.0])

    def pause() -> None:
        clock.now_s += next(pauses, 0.0)

    async with driven(clock) as driver:
        receiver = Receiver(pause)
        driver.submit(EngineRequest("a", 160, 50), receiver)
        end = await receiver.ended
    assert end.finished_s > 5.0
    assert driver.lag_dropped_s == pytest.approx(5.0)
    assert min(clock.slept_s) > LAG_MAX_S / 100


async def test_after_a_rest_work_starts_now() -> None:
    clock = Clock()
    async with driven(clock) as driver:
        for name in ("a", "b"):
            receiver = Receiver()
            driver.submit(EngineRequest(name, 160, 1), receiver)
            end = await receiver.ended
            assert end.finished_s - end.arrived_s < 0.02
            clock.now_s += 60.0
    assert driver.lag_dropped_s == 0.0


async def test_a_cancelled_request_gets_nothing_more() -> None:
    clock = Clock()
    async with driven(clock) as driver:

        def leave() -> None:
            driver.cancel("gone")

        gone, stays = Receiver(leave), Receiver()
        driver.submit(EngineRequest("gone", 160, 50), gone)
        driver.submit(EngineRequest("stays", 160, 50), stays)
        await stays.ended
        assert not driver.cancel("gone")
    assert gone.tokens == 1
    assert stays.tokens == 50


def test_time_must_pass() -> None:
    with pytest.raises(ValueError, match="speed must be above 0"):
        EngineDriver(Engine(H100), clock=Clock(), speed=0)
