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
from .gateway import Gateway, bootstrap, filter_library, run_gateway
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


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
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
    config = bootstrap(directory, [server.port for server in servers], _closed_port())
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
        server.requests.clear()
    if world.picker.is_serving:
        world.picker.frames.clear()
    else:
        await world.restart_picker()
    yield world
    for server in world.servers:
        server.release.set()
    # Streams of one test must not speak in the next one.
    async with asyncio.timeout(10):
        while world.picker.is_serving and world.picker.unfinished():
            await asyncio.sleep(0.005)
