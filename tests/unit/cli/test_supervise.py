"""Restarts, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from inferway.cli.supervise import (
    EARLY_DEATHS_MAX,
    HEALTHY_AFTER_S,
    PAUSE_MAX_S,
    BackOff,
    PartFailedError,
    keep_up,
    leaves,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_pauses_double_up_to_a_limit() -> None:
    back_off = BackOff()
    pauses = [back_off.after(5.0) for _ in range(8)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, PAUSE_MAX_S, PAUSE_MAX_S]


def test_a_long_life_starts_over() -> None:
    back_off = BackOff()
    for _ in range(4):
        back_off.after(5.0)
    assert back_off.after(HEALTHY_AFTER_S) == 0.2
    assert back_off.after(HEALTHY_AFTER_S - 0.1) == 0.4


def test_early_deaths_in_a_row_give_up() -> None:
    back_off = BackOff()
    assert [back_off.after(0.5) for _ in range(EARLY_DEATHS_MAX)][-2:] == [1.6, None]
    back_off = BackOff()
    for _ in range(3):
        for _ in range(EARLY_DEATHS_MAX - 1):
            assert back_off.after(0.5) is not None
        assert back_off.after(2.0) is not None, "one that lived longer breaks the row"


class Life:
    """A part whose lives last as long as told; the last one until it is stopped."""

    name = "part"

    def __init__(self, *lives_s: float) -> None:
        self.restarts = 0
        self.started_s: list[float] = []
        self._lives_s = list(lives_s)
        self.stopped = asyncio.Event()

    async def run_once(self) -> int:
        self.started_s.append(asyncio.get_running_loop().time())
        if not self._lives_s:
            await self.stopped.wait()
            return 0
        await asyncio.sleep(self._lives_s.pop(0))
        return 3


def test_restarts_with_pauses_until_stopped(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        part, stopping, told = Life(5.0, 40.0, 5.0), asyncio.Event(), list[str]()
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(keep_up(part, stopping, on_restart=told.append))
            await asyncio.sleep(100)
            assert part.started_s == pytest.approx([0, 5.2, 45.4, 50.8])
            assert (part.restarts, told) == (3, ["part"] * 3)
            stopping.set()
            part.stopped.set()
            await keeping
        assert part.restarts == 3, "an end that was asked for is no restart"

    virtually(scenario())


def test_stopping_cuts_a_pause_short(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        part, stopping = Life(*[5.0] * 20), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_up(part, stopping))
            await asyncio.sleep(5 * 6 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 1.0)
            lives = len(part.started_s)
            stopping.set()
        assert lives == len(part.started_s) == 6
        assert asyncio.get_running_loop().time() == pytest.approx(37.2)

    virtually(scenario())


def test_gives_up_with_a_reason(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        with pytest.raises(PartFailedError, match=r"part ended 5 times .* exit code 3"):
            await keep_up(Life(*[0.1] * 10), asyncio.Event())

    virtually(scenario())


def test_leaves_of_nested_groups() -> None:
    first, second, third = ValueError("1"), OSError("2"), KeyError("3")
    group = ExceptionGroup("", [first, ExceptionGroup("", [second, ExceptionGroup("", [third])])])
    assert leaves(group) == [first, second, third]
