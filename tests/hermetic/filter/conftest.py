"""One Envoy, two model servers and a scripted picker per test module."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio

from .fake_picker import FakePicker, Hello, Script, endpoints
from .gateway import ALIVE_MS_MIN, Gateway, bootstrap, filter_library, run_gateway
from .upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass
class World:
    gateway: Gateway
    picker: FakePicker
    servers: list[Upstream]
    client: aiohttp.ClientSession
    everywhere: Script = field(default=lambda _: None)

    async def restart_picker(self, script: Script | None = None) -> None:
        """A fresh picker without memory, connected."""
        await self.picker.stop()
        self.picker.frames.clear()
        self.picker.resume()
        self.picker.script = script or self.everywhere
        await self.picker.start()
        await self.picker.wait(Hello)

    async def until_up(self) -> None:
        """The filter takes the picker's word: it has read the greeting, and the pulse is there."""
        async with asyncio.timeout(20):
            while True:
                body = {"model": "open-probe"}
                async with self.client.post("/v1/chat/completions", json=body) as response:
                    if b"x-gateway-destination-endpoint" in await response.read():
                        return

    async def until_quiet(self) -> None:
        """Streams of one test must not speak in the next one."""
        async with asyncio.timeout(20):
            while self.picker.is_serving and self.picker.unfinished():
                await asyncio.sleep(0.005)


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """A module with an ALIVE_MS of its own is about pickers that hang."""
    library = filter_library()
    if library is None:
        pytest.fail("the Envoy filter is not built: make setup")
    directory: Path = tmp_path_factory.mktemp("gateway")
    servers = [Upstream(), Upstream()]
    for server in servers:
        await server.start()
    first = servers[0].address
    picker = FakePicker(directory / "pick.sock", lambda pick: endpoints(pick.stream, first))
    await picker.start()
    alive_ms = getattr(request.module, "ALIVE_MS", ALIVE_MS_MIN)
    ports = [server.port for server in servers]
    config = bootstrap(directory, ports, _closed_port(), alive_ms_min=alive_ms)
    async with run_gateway(directory, library, config) as gateway:
        await picker.wait(Hello)
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(gateway.url, timeout=timeout) as client:
            world = World(gateway, picker, servers, client)
            world.everywhere = lambda pick: endpoints(pick.stream, first)
            yield world
    await picker.stop()
    for server in servers:
        await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(module_world: World) -> AsyncIterator[World]:
    """The module's world in its first state: the picker sends everything to the first server."""
    world = module_world
    world.picker.resume()
    world.picker.script = world.everywhere
    for server in world.servers:
        server.release.clear()
        server.streaming.clear()
        server.slow = False
        server.bodies.clear()
        server.headers.clear()
    if not world.picker.is_serving:
        await world.restart_picker()
    await world.until_up()
    await world.until_quiet()
    world.picker.frames.clear()
    for server in world.servers:
        server.requests.clear()
    yield world
    for server in world.servers:
        server.release.set()
    await world.until_quiet()
