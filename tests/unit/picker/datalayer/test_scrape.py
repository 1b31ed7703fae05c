"""Scraping real HTTP servers on loopback: what is told, what a failure changes, the pace."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from inferway.picker.config import ScrapeConfig
from inferway.picker.datalayer.engines import Reading, engine
from inferway.picker.datalayer.models import Served
from inferway.picker.datalayer.scrape import Scraper, Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CARDS = {"data": [{"id": "llama"}, {"id": "tuned", "parent": "llama"}]}


class FakeServer:
    """A model server whose answers the test sets."""

    def __init__(self) -> None:
        self.status = 200
        self.metrics = b"vllm:num_requests_waiting 3\nvllm:num_requests_running 4\n"
        self.models = json.dumps(CARDS).encode()
        self.asked: dict[str, int] = defaultdict(int)
        self.together = 0
        self.release: asyncio.Event | None = None
        app = web.Application()
        app.router.add_get("/metrics", self.answer)
        app.router.add_get("/v1/models", self.answer)
        self.server = TestServer(app)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[request.path] += 1
        self.together += 1
        if self.release is not None:
            await self.release.wait()
        self.together -= 1
        body = self.metrics if request.path == "/metrics" else self.models
        return web.Response(status=self.status, body=body)


class Told:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.own = 0.0
        self.readings: list[tuple[str, Reading, float, float]] = []
        self.lists: list[tuple[str, Served]] = []
        self.reach: list[tuple[str, bool]] = []

    def own_requests(self, address: str) -> float:
        self.own -= 1.0
        return self.own + 1.0

    def scraped(self, address: str, reading: Reading, own: float, now_s: float) -> None:
        self.readings.append((address, reading, own, now_s))

    def models(self, address: str, answer: Served) -> None:
        self.lists.append((address, answer))

    def reachable(self, address: str, reachable: bool) -> None:
        self.reach.append((address, reachable))


class Rig:
    def __init__(self, session: aiohttp.ClientSession, parse: object, config: ScrapeConfig) -> None:
        self.told = Told()
        self.now_s = 100.0
        self.advance = lambda: 0.0
        cpu = count()
        self.scraper = Scraper(
            config,
            session,
            self.told,
            parse=parse,  # type: ignore[arg-type]
            clock=lambda: self.now_s + self.advance(),
            cpu_clock=lambda: next(cpu) * 1e-4,
            random=lambda: 0.5,
        )

    def read(self, *addresses: str) -> None:
        self.scraper.set_targets([Target(a, "/metrics", engine("vllm")) for a in addresses])


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    made = FakeServer()
    async with made.server:
        yield made


@pytest.fixture
async def rig(parse: object) -> AsyncIterator[Callable[..., Rig]]:
    async with aiohttp.ClientSession() as session:
        yield lambda **config: Rig(session, parse, ScrapeConfig(**config))


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0.001)


async def run_until(scraper: Scraper, wait: Callable[[], Awaitable[None]]) -> None:
    """Runs the scraper while `wait` waits, then cancels it."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(scraper.run())
        await wait()
        running.cancel()


async def test_a_good_scrape_tells_the_reading_and_the_models(
    rig: Callable[..., Rig], server: FakeServer
) -> None:
    made = rig()
    made.read(server.address)
    made.told.own = 7.0
    await made.scraper.scrape(server.address)
    # The larger of our requests before (7) and after (6) the page was read.
    assert made.told.readings == [(server.address, Reading(waiting=3, running=4), 7.0, 100.0)]
    assert made.told.lists == [
        (server.address, Served(("llama", "tuned"), ("tuned",), (("tuned", "llama"),)))
    ]
    assert made.told.reach == [(server.address, True)]


async def test_models_are_asked_for_slowly(rig: Callable[..., Rig], server: FakeServer) -> None:
    made = rig()
    made.read(server.address)
    for now_s in (100.0, 101.0, 107.0, 107.6, 110.0, 115.2):
        made.now_s = now_s
        await made.scraper.scrape(server.address)
    assert server.asked == {"/metrics": 6, "/v1/models": 3}


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"data": 5}', b"\xff", b"[" * 200_000])
async def test_a_model_list_that_is_none_is_asked_for_again_soon(
    rig: Callable[..., Rig], server: FakeServer, body: bytes
) -> None:
    made = rig()
    made.read(server.address)
    good, server.models = server.models, body
    await made.scraper.scrape(server.address)
    assert made.told.lists == []
    server.models = good
    made.now_s = 101.0
    await made.scraper.scrape(server.address)
    assert len(made.told.lists) == 1


async def test_failures_keep_the_reading_and_three_of_them_mean_unreachable(
    rig: Callable[..., Rig],
) -> None:
    made = rig()
    address = f"127.0.0.1:{unused_port()}"
    made.read(address)
    for _ in range(2):
        await made.scraper.scrape(address)
    assert made.told.reach == []
    for _ in range(3):
        await made.scraper.scrape(address)
    assert made.told.reach == [(address, False)]
    assert made.told.readings == []


async def test_a_real_answer_makes_an_endpoint_reachable_again(rig: Callable[..., Rig]) -> None:
    made = rig()
    address = f"127.0.0.1:{unused_port()}"
    made.read(address)
    for _ in range(2):
        await made.scraper.scrape(address)
    made.scraper.answered(address)
    for _ in range(2):
        await made.scraper.scrape(address)
    made.scraper.answered("nobody:1")
    assert made.told.reach == [(address, True)]


async def test_an_error_status_is_reachable_but_no_reading(
    rig: Callable[..., Rig], server: FakeServer
) -> None:
    made = rig()
    server.status = 404
    made.read(server.address)
    for _ in range(4):
        await made.scraper.scrape(server.address)
    assert made.told.reach == [(server.address, True)]
    assert made.told.readings == []


async def test_a_hanging_server_times_out(rig: Callable[..., Rig], server: FakeServer) -> None:
    made = rig(timeout_s=0.02)
    server.release = asyncio.Event()
    made.read(server.address)
    for _ in range(3):
        await made.scraper.scrape(server.address)
    assert made.told.reach == [(server.address, False)]
    server.release.set()


async def test_a_page_without_end_is_refused(rig: Callable[..., Rig], server: FakeServer) -> None:
    made = rig()
    server.metrics = b"x 1\n" * (9 * 1024 * 256)
    made.read(server.address)
    await made.scraper.scrape(server.address)
    assert made.told.readings == []


async def test_a_target_removed_meanwhile_is_not_told_about(
    rig: Callable[..., Rig], server: FakeServer
) -> None:
    made = rig()
    server.release = asyncio.Event()
    made.read(server.address)
    async with asyncio.TaskGroup() as group:
        group.create_task(made.scraper.scrape(server.address))
        await until(lambda: server.together == 1)
        made.read()
        server.release.set()
    assert made.told.readings == []
    assert made.told.reach == []


async def test_running_reads_new_targets_at_once_and_keeps_the_pace(
    rig: Callable[..., Rig], server: FakeServer
) -> None:
    made = rig(interval_min_s=0.1)

    async def steps() -> None:
        await asyncio.sleep(0)
        made.read(server.address)
        await until(lambda: len(made.told.readings) == 1)
        made.now_s += 4.9  # idle: every 5 s
        made.scraper.set_targets([Target(server.address, "/metrics", engine("vllm"))])
        await asyncio.sleep(0.02)
        assert len(made.told.readings) == 1
        made.scraper.picked(made.now_s)  # the first pick after a pause: at once
        made.now_s += 0.1
        made.scraper.set_targets([Target(server.address, "/metrics", engine("vllm"))])
        await until(lambda: len(made.told.readings) == 2)
        assert made.scraper.interval_s == 0.1

    await run_until(made.scraper, steps)


async def test_running_comes_back_to_an_endpoint_by_itself(
    rig: Callable[..., Rig], server: FakeServer
) -> None:
    made = rig(interval_min_s=0.001, interval_max_s=0.002)
    started_s = asyncio.get_running_loop().time()
    made.advance = lambda: asyncio.get_running_loop().time() - started_s

    async def steps() -> None:
        made.read(server.address)
        await until(lambda: len(made.told.readings) >= 4)

    await run_until(made.scraper, steps)


async def test_no_more_scrapes_at_once_than_allowed(rig: Callable[..., Rig]) -> None:
    made = rig(concurrency_max=2)
    release = asyncio.Event()
    servers = [FakeServer() for _ in range(5)]
    async with AsyncExitStack() as stack:
        for server in servers:
            server.release = release
            await stack.enter_async_context(server.server)

        def together() -> int:
            return sum(server.together for server in servers)

        async def steps() -> None:
            made.read(*(server.address for server in servers))
            await until(lambda: together() == 2)
            await asyncio.sleep(0.02)
            assert together() == 2
            release.set()
            await until(lambda: all(server.asked["/v1/models"] for server in servers))

        await run_until(made.scraper, steps)
