"""Parts that die, hang and come back while requests run, in both failure modes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from inferway.simulator.faults import FaultRule

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from inferway.simulator.server import SimServer

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

CHAT = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
# The filter counts a silent picker as down after 300 ms; what is added to one request beyond that
# is scheduling noise of a busy machine.
HANG_ADDED_MAX_S = 2.0


def gateway_of(
    tmp_path: Path, running: list[SimServer], *, mode: str
) -> AbstractAsyncContextManager[RunningGateway]:
    folder = tmp_path / "manifests"
    folder.mkdir()
    pool = pool_manifest("all", annotations=f"inferway.dev/failure-mode: {mode}")
    text = pool + "".join(server_manifest(one, "all") for one in running)
    (folder / "all.yaml").write_text(text)
    return running_gateway(folder, str(folder), models=("llama",))


class Load:
    """Requests one after another from a few clients, until it is told to end."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.results: list[tuple[int, float]] = []
        self.codes: Counter[str] = Counter()
        self._gateway = gateway
        self._end = asyncio.Event()

    async def client(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._end.is_set():
            started_s = loop.time()
            status, headers, reply = await self._gateway.post(CHAT)
            self.results.append((status, loop.time() - started_s))
            if status != 200:
                self.codes[reply["error"]["code"]] += 1
                assert headers["retry-after"], reply

    async def during(self, action: Callable[[], Awaitable[None]]) -> Counter[int]:
        """Statuses of the requests that ran around the action."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(self.client())
            await self.enough(20)
            await action()
            await self.enough(20)
            self._end.set()
        return Counter(status for status, _seconds in self.results)

    async def enough(self, more: int) -> None:
        wanted = len(self.results) + more
        async with asyncio.timeout(30):
            while len(self.results) < wanted:
                await asyncio.sleep(0.005)


async def picker_is_back(gateway: RunningGateway, restarts: int) -> None:
    async def back() -> bool:
        picker = (await gateway.status())["parts"]["picker"]
        return bool(picker["connected"]) and picker["restarts"] >= restarts

    await gateway.until("the picker is back", back)


async def until_picked(gateway: RunningGateway, load: Load) -> None:
    """Until picks go on: the sum of picks over the endpoints grows."""

    async def picks() -> int:
        pools = (await gateway.status())["pools"]
        return sum(endpoint["picks"] for pool in pools for endpoint in pool["endpoints"])

    before = await picks()

    async def grows() -> bool:
        return await picks() > before

    await gateway.until("picks go on", grows)
    await load.enough(1)


@pytest.mark.parametrize("mode", ["FailOpen", "FailClose"])
async def test_picker_killed_under_load(tmp_path: Path, mode: str) -> None:
    async with (
        servers(2, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running, mode=mode) as gateway,
    ):
        load = Load(gateway)

        async def kill() -> None:
            await gateway.kill("picker")
            await picker_is_back(gateway, restarts=1)
            await until_picked(gateway, load)

        statuses = await load.during(kill)
        if mode == "FailOpen":
            assert statuses.keys() == {200}, load.codes
        else:
            assert statuses.keys() <= {200, 503}
            assert statuses[200] >= 40
        assert (await gateway.post(CHAT))[0] == 200


@pytest.mark.parametrize("mode", ["FailOpen", "FailClose"])
async def test_picker_hangs_under_load(tmp_path: Path, mode: str) -> None:
    """SIGSTOP: the socket stays open, nobody answers. Then SIGCONT."""
    async with (
        servers(2, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running, mode=mode) as gateway,
    ):
        load = Load(gateway)

        async def hang() -> None:
            pid = await gateway.kill("picker", signal.SIGSTOP)
            try:
                await load.enough(12)
            finally:
                os.kill(pid, signal.SIGCONT)
            await until_picked(gateway, load)

        statuses = await load.during(hang)
        if mode == "FailOpen":
            assert statuses.keys() == {200}, load.codes
            assert max(seconds for _status, seconds in load.results) < HANG_ADDED_MAX_S
        else:
            assert statuses.keys() <= {200, 503}
            assert statuses[503] > 0, "a hung picker must not let FailClose requests through"
        assert (await gateway.status())["parts"]["picker"]["restarts"] == 0
        assert (await gateway.post(CHAT))[0] == 200


async def test_open_streams_survive_a_picker_restart(tmp_path: Path) -> None:
    """A stream that runs while the picker dies goes on, and its work is released afterwards."""
    async with (
        servers(1, model="llama", engine="llama-3-8b-h100") as running,
        gateway_of(tmp_path, running, mode="FailClose") as gateway,
    ):
        stream = await gateway.openai.chat.completions.create(
            model="llama",
            messages=[{"role": "user", "content": "Tell me all"}],
            max_tokens=10_000,
            stream=True,
        )
        chunks = aiter(stream)
        await anext(chunks)
        await gateway.kill("picker")
        await picker_is_back(gateway, restarts=1)

        async def in_flight() -> int:
            pools = (await gateway.status())["pools"]
            return sum(one["in_flight"] for pool in pools for one in pool["endpoints"])

        async def known_again() -> bool:
            return await in_flight() == 1

        await gateway.until("the new picker knows the open stream", known_again)
        for _ in range(10):
            assert (await anext(chunks)).choices[0].delta.content
        await stream.close()

        async def released() -> bool:
            return await in_flight() == 0

        await gateway.until("the stream is released", released)


async def test_envoy_killed(tmp_path: Path) -> None:
    async with (
        servers(1, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running, mode="FailClose") as gateway,
    ):
        assert (await gateway.post(CHAT))[0] == 200
        await gateway.kill("envoy")

        async def serves() -> bool:
            with suppress(aiohttp.ClientError, OSError):
                return (await gateway.post(CHAT))[0] == 200
            return False

        await gateway.until("Envoy serves again", serves)
        assert (await gateway.status())["parts"]["envoy"]["restarts"] == 1


async def test_model_server_dies_under_load(tmp_path: Path) -> None:
    """The next endpoint of the list takes over; no client sees an error."""
    async with (
        servers(3, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running, mode="FailClose") as gateway,
    ):
        load = Load(gateway)

        async def kill() -> None:
            running[1].faults = (FaultRule("refuse"),)
            await load.enough(60)
            running[1].faults = ()
            await running[1].listening()

        statuses = await load.during(kill)
        assert statuses.keys() == {200}, load.codes


@pytest.fixture
async def one_server() -> AsyncIterator[list[SimServer]]:
    async with servers(1, model="llama", engine="llama-3-8b-h100") as running:
        yield running


async def test_sigterm_lets_running_streams_finish(
    tmp_path: Path, one_server: list[SimServer]
) -> None:
    async with gateway_of(tmp_path, one_server, mode="FailClose") as gateway:
        stream = await gateway.openai.chat.completions.create(
            model="llama",
            messages=[{"role": "user", "content": "Go on"}],
            max_tokens=150,
            stream=True,
        )
        chunks = aiter(stream)
        await anext(chunks)
        gateway.process.send_signal(signal.SIGTERM)
        rest = [chunk async for chunk in chunks]
        assert rest[-1].choices[0].finish_reason == "length"
        async with asyncio.timeout(20):
            assert await gateway.process.wait() == 0


async def test_client_that_leaves_frees_its_place(
    tmp_path: Path, one_server: list[SimServer]
) -> None:
    async with gateway_of(tmp_path, one_server, mode="FailClose") as gateway:
        body: dict[str, Any] = {**CHAT, "max_tokens": 5000, "stream": True}
        async with gateway.session.post(f"{gateway.url}/v1/chat/completions", json=body) as reply:
            await reply.content.readany()

        async def free() -> bool:
            pools = (await gateway.status())["pools"]
            return sum(e["in_flight"] for pool in pools for e in pool["endpoints"]) == 0

        await gateway.until("the place is free", free)

        async def cancelled() -> bool:
            return one_server[0].cancelled == 1

        await gateway.until("the model server stops working on it", cancelled)
