"""The picker follows publishers over real sockets: late starts, gaps, restarts, garbage."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from inferway import _native
from inferway.cli.demo.manifests import free_ports
from inferway.picker.config import KvEventsConfig
from inferway.picker.datalayer.kv_events.book import EventBook
from inferway.picker.datalayer.kv_events.subscriber import Subscriber, sources
from inferway.picker.datalayer.prefix import PrefixStore
from inferway.simulator.cache_journal import AllBlocksCleared, BlockRemoved, BlockStored
from inferway.simulator.kv_publisher import KvPublisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.hermetic
TIMEOUT_S = 30.0


class Following:
    """A subscriber and the book it fills, for an endpoint at this address."""

    def __init__(self, address: str, config: KvEventsConfig) -> None:
        store = PrefixStore(_native.PrefixIndex(1000), _native.hash_seed)
        store.rebind([address])
        self.book = EventBook(lambda: store)
        self.book.configure({address: config.ranks})
        self.subscriber = Subscriber(self.book, clock=time.monotonic, cpu_clock=time.perf_counter)
        self.subscriber.follow(sources(address, config))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not holds():
                await asyncio.sleep(0.01)

    async def until_held(self, blocks: int) -> None:
        await self.until(lambda: self.book.blocks == blocks)


@asynccontextmanager
async def following(config: KvEventsConfig) -> AsyncIterator[Following]:
    made = Following("127.0.0.1:8000", config)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.subscriber.run())
        try:
            yield made
        finally:
            running.cancel()
    assert made.subscriber.publishers == 0


@asynccontextmanager
async def publishing(port: int, replay_port: int | None) -> AsyncIterator[KvPublisher]:
    publisher = KvPublisher(
        host="127.0.0.1",
        port=port,
        replay_port=replay_port,
        topic="kv@pod@model",
        wall_clock=lambda: 0.0,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(publisher.run()) if replay_port else None
        try:
            yield publisher
        finally:
            if running is not None:
                running.cancel()
    publisher.close()


def stored(first: int, count: int = 1) -> list[BlockStored]:
    return [BlockStored(tuple(range(first, first + count)), None, (), 16)]


async def test_from_a_late_start_through_a_gap_to_a_restart() -> None:
    port, replay_port = free_ports(2)
    config = KvEventsConfig(port=port, replay_port=replay_port)
    async with publishing(port, replay_port) as publisher:
        for number in range(5):
            publisher.publish(stored(number))
        async with following(config) as told:
            await told.until(lambda: told.subscriber.connected == 1)
            await announced(told, publisher, first=100)
            held = told.book.blocks
            assert held >= 6  # the five from before it started came by replay
            publisher._sequence += 1  # a batch that nobody will ever see
            publisher.publish(stored(50))
            await told.until_held(1)
            assert told.subscriber.sequence_counts() == (2, 1, 0)
            publisher._live.send_multipart((b"kv@", b"short", b""))
            publisher._live.send_multipart((b"one frame",))
            publisher.publish([AllBlocksCleared()])
            await told.until_held(0)
            await told.until(lambda: told.subscriber.strange == 2)
            publisher.publish(stored(60, 3))
            publisher.publish([BlockRemoved((61,))])
            await told.until_held(2)


async def announced(told: Following, publisher: KvPublisher, *, first: int) -> None:
    """A subscription takes a moment to arrive: publishes until something is seen."""
    async with asyncio.timeout(TIMEOUT_S):
        while not told.book.blocks or told.subscriber.replaying:
            publisher.publish(stored(first))
            first += 1
            await asyncio.sleep(0.05)
    last = publisher._sequence
    await told.until(lambda: told.book.counters.batches["applied"] >= last)


async def test_a_restart_and_a_gap_without_replay() -> None:
    (port,) = free_ports(1)
    config = KvEventsConfig(port=port)
    async with following(config) as told:
        async with publishing(port, None) as publisher:
            async with asyncio.timeout(TIMEOUT_S):
                while told.book.blocks < 2:
                    publisher.publish(stored(publisher._sequence))
                    await asyncio.sleep(0.02)
            publisher._sequence += 5
            publisher.publish(stored(900, 40))
            await told.until_held(40)
        async with publishing(port, None) as publisher:
            async with asyncio.timeout(TIMEOUT_S):
                while told.book.blocks in (0, 40):
                    publisher.publish(stored(publisher._sequence))
                    await asyncio.sleep(0.02)
            assert told.book.blocks < 40
        gaps, losses, restarts = told.subscriber.sequence_counts()
        assert (losses >= 1, restarts) == (True, 1)
        assert gaps >= losses


async def test_a_flood_is_taken_in_slices() -> None:
    """The loop stays free while thousands of batches come, and nothing is lost."""
    port, replay_port = free_ports(2)
    config = KvEventsConfig(port=port, replay_port=replay_port)
    async with publishing(port, replay_port) as publisher, following(config) as told:
        await announced(told, publisher, first=10**6)
        before = told.book.blocks
        for number in range(4000):
            publisher.publish(stored(100 * number, 10))
        await told.until_held(before + 40_000)
        assert told.subscriber.slices_full > 3
        assert told.subscriber.sequence_counts()[1:] == (0, 0)


@pytest.mark.parametrize("at_once", [0, 100])
async def test_a_restart_is_seen(at_once: int) -> None:
    """Also when the new process has published more than the old one before it is reached: then a
    replay shows that it is another.
    """
    port, replay_port = free_ports(2)
    config = KvEventsConfig(port=port, replay_port=replay_port)
    async with following(config) as told:
        async with publishing(port, replay_port) as publisher:
            await announced(told, publisher, first=1000)
        async with publishing(port, replay_port) as publisher:
            for _ in range(at_once):
                publisher.publish(stored(5000 + publisher._sequence))
            async with asyncio.timeout(TIMEOUT_S):
                while not told.subscriber.sequence_counts()[2]:
                    publisher.publish(stored(5000 + publisher._sequence))
                    await asyncio.sleep(0.02)
            await told.until_held(publisher._sequence)
            assert told.subscriber.sequence_counts()[1:] == (0, 1)
