"""Names to addresses, with look-ups that answer, fail and hang as told."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import structlog

from inferway.control.resolver import ADDRESSES_MAX, Resolver, SystemLookUp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

REFRESH_S = 10.0


class Names:
    """What the name server would say. A name that `hangs` answers when its event is set."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers: dict[str, list[str] | Exception] = dict(answers)
        self.hangs: dict[str, asyncio.Event] = {}
        self.asked: Counter[str] = Counter()
        self.asked_at_s: defaultdict[str, list[float]] = defaultdict(list)

    async def __call__(self, name: str) -> list[str]:
        self.asked[name] += 1
        self.asked_at_s[name].append(asyncio.get_running_loop().time())
        if name in self.hangs:
            await self.hangs[name].wait()
        answer = self.answers.get(name, socket.gaierror("no such name"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Changes:
    count = 0

    def __call__(self) -> None:
        self.count += 1


@asynccontextmanager
async def resolving(names: Names, changes: Changes) -> AsyncIterator[Resolver]:
    resolver = Resolver(changes, look_up=names, refresh_s=REFRESH_S)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(resolver.run())
        yield resolver
        running.cancel()


async def settled() -> None:
    """Everybody who can go on has done so; less than a refresh interval passes."""
    await asyncio.sleep(0.001)


def test_answers_at_once_and_again_after_an_interval(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        names, changes = Names(**{"a.test": ["10.0.0.2", "10.0.0.1", "10.0.0.2"]}), Changes()
        async with resolving(names, changes) as resolver:
            resolver.want(["a.test"])
            await settled()
            assert resolver.addresses == {"a.test": ("10.0.0.1", "10.0.0.2")}
            assert changes.count == 1
            await asyncio.sleep(REFRESH_S * 2)
            assert changes.count == 1, "the same answer is no change"
            names.answers["a.test"] = ["10.0.0.3"]
            await asyncio.sleep(REFRESH_S)
            assert resolver.addresses == {"a.test": ("10.0.0.3",)}
            assert changes.count == 2
        assert names.asked_at_s["a.test"] == pytest.approx([0, 10, 20, 30], abs=0.01)

    virtually(scenario())


def test_last_addresses_stay_when_a_name_stops_resolving(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        names, changes = Names(**{"a.test": ["10.0.0.1"]}), Changes()
        async with resolving(names, changes) as resolver:
            resolver.want(["a.test", "never.test", "bad..test"])
            names.answers["bad..test"] = UnicodeError("label empty or too long")
            await settled()
            for answer in (socket.gaierror("temporary failure"), []):
                names.answers["a.test"] = answer
                await asyncio.sleep(REFRESH_S)
                assert resolver.addresses == {"a.test": ("10.0.0.1",)}
            assert changes.count == 1

    virtually(scenario())


def test_failure_is_told_once(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        names = Names()
        async with resolving(names, Changes()) as resolver:
            resolver.want(["a.test"])
            await asyncio.sleep(REFRESH_S * 3.5)
            assert names.asked["a.test"] == 4
            names.answers["a.test"] = ["10.0.0.1"]
            await asyncio.sleep(REFRESH_S)
            names.answers["a.test"] = socket.gaierror("gone again")
            await asyncio.sleep(REFRESH_S)

    with structlog.testing.capture_logs() as events:
        virtually(scenario())
    assert [(event["event"], event["error"]) for event in events] == [
        ("name_does_not_resolve", "no such name"),
        ("name_does_not_resolve", "gone again"),
    ]


def test_a_name_that_hangs_holds_up_no_other(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        names = Names(**{"a.test": ["10.0.0.1"], "slow.test": ["10.0.0.9"]})
        names.hangs["slow.test"] = asyncio.Event()
        async with resolving(names, Changes()) as resolver:
            resolver.want(["a.test", "slow.test"])
            await settled()
            assert resolver.addresses == {"a.test": ("10.0.0.1",)}
            await asyncio.sleep(REFRESH_S * 3)
            assert names.asked["slow.test"] == 1, "one look-up of a name at a time"
            assert names.asked["a.test"] == 4
            names.hangs.pop("slow.test").set()
            await settled()
            assert resolver.addresses["slow.test"] == ("10.0.0.9",)

    virtually(scenario())


def test_unwanted_names_are_forgotten(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        names = Names(**{"a.test": ["10.0.0.1"], "b.test": ["10.0.0.2"]})
        names.hangs["late.test"] = asyncio.Event()
        names.answers["late.test"] = ["10.0.0.3"]
        async with resolving(names, Changes()) as resolver:
            resolver.want(["a.test", "late.test"])
            await settled()
            resolver.want(["b.test"])
            assert resolver.addresses == {}
            await settled()
            assert resolver.addresses == {"b.test": ("10.0.0.2",)}, "asked for without waiting"
            names.hangs["late.test"].set()
            await settled()
            assert resolver.addresses == {"b.test": ("10.0.0.2",)}, "an answer nobody wants"

    virtually(scenario())


def test_nothing_wanted_asks_nothing(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        names = Names()
        async with resolving(names, Changes()):
            await asyncio.sleep(REFRESH_S * 5)
        assert not names.asked

    virtually(scenario())


def test_addresses_are_replaced_and_limited(virtually: Callable[..., None]) -> None:
    async def scenario() -> None:
        many = [f"10.0.{n // 256}.{n % 256}" for n in range(ADDRESSES_MAX + 5)]
        async with resolving(Names(**{"a.test": many}), Changes()) as resolver:
            before = resolver.addresses
            resolver.want(["a.test"])
            await settled()
            assert before == {}
            assert len(resolver.addresses["a.test"]) == ADDRESSES_MAX
            same = resolver.addresses
            resolver.want(["a.test"])
            assert resolver.addresses is same

    virtually(scenario())


async def test_system_look_up_leaves_out_scoped_addresses() -> None:
    def answer(name: str, port: None, *, type: int) -> list[tuple[object, ...]]:  # noqa: A002
        assert (name, port, type) == ("a.test", None, socket.SOCK_STREAM)
        found = ["10.0.0.1", "fe80::1%eth0", "2001:db8::0:1", "10.0.0.1"]
        return [(0, 0, 0, "", (address, 0)) for address in found]

    assert await SystemLookUp(answer)("a.test") == {"10.0.0.1", "2001:db8::1"}
