"""A gateway on loopback for tests: ADS server, real Envoy, model servers that say who they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from inferway.envoy.ads import AdsServer
from inferway.envoy.binary import find_envoy, find_filter
from inferway.envoy.bootstrap import RunDirectory
from inferway.envoy.conversation import ProgrammingPhase, ProgrammingState
from inferway.envoy.process import EnvoyProcess, EnvoyProgram
from inferway.envoy.settings import EnvoySettings
from inferway.envoy.snapshot import Snapshot, build_snapshot
from inferway.routing.model import (
    Endpoint,
    Listener,
    Pool,
    Route,
    RoutingModel,
    ServerGroup,
    Target,
    TargetKind,
    VirtualHost,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from inferway.envoy.model_list import ModelInfo

LISTENER = "demo/gateway/http"
READY_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Seen:
    """A request that was answered normally."""

    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass
class ModelServer:
    """Answers with its name; `/slow` streams until `release` is set; `/status/N` answers N.
    `mood` is the path that it takes every request for.
    """

    name: str
    port: int = 0
    requests: int = 0
    refuses: bool = False
    retry_after: str = "1"
    mood: str = ""
    seen: list[Seen] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/health":
            return web.Response()  # Envoy's own question, not a client's
        self.requests += 1
        path = self.mood or request.path
        if path == "/slow":
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b"data: begin\n\n")
            self.started.set()
            await self.release.wait()
            await response.write(b"data: end\n\n")
            await response.write_eof()
            return response
        if path == "/silent":
            await request.read()
            self.started.set()
            await self.release.wait()
        if path == "/break":
            response = web.StreamResponse(headers={"content-length": "100"})
            await response.prepare(request)
            await response.write(b"begun")
        if path in ("/reset", "/break"):
            assert request.transport is not None
            request.transport.abort()
        if path.startswith("/status/"):
            return web.Response(status=int(path.removeprefix("/status/")), text="mine")
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.raw_path, headers, body))
        if self.refuses:
            return web.Response(status=503, headers={"retry-after": self.retry_after})
        return web.json_response(
            {
                "server": self.name,
                "path": request.raw_path,
                "headers": dict(request.headers),
                "lines": list(request.headers.items()),
                "bytes": len(body),
            }
        )


@pytest.fixture
async def model_server() -> AsyncIterator[Callable[[str], object]]:
    """Factory of running model servers."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, host: str = "127.0.0.1") -> ModelServer:
            server = ModelServer(name)
            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{path:.*}", server.answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.callback(server.release.set)
            site = web.TCPSite(runner, host, 0)
            await site.start()
            server.port = runner.addresses[0][1]
            return server

        yield start


class Build:
    """Short ways to say routing models."""

    listener = LISTENER

    @staticmethod
    def pool(name: str, *ports: int, fail_open: bool = True) -> Pool:
        return Pool(name, _endpoints(ports), False, fail_open, "random", ())

    @staticmethod
    def group(name: str, *ports: int) -> ServerGroup:
        return ServerGroup(name, _endpoints(ports))

    @staticmethod
    def to_pool(name: str, weight: int = 1) -> Target:
        return Target(TargetKind.POOL, name, weight)

    @staticmethod
    def to_servers(name: str, weight: int = 1) -> Target:
        return Target(TargetKind.SERVERS, name, weight)

    @staticmethod
    def nowhere(weight: int = 1) -> Target:
        return Target(TargetKind.ERROR, "demo/missing", weight)

    @staticmethod
    def model(*routes: Route, backends: tuple[Pool | ServerGroup, ...] = ()) -> RoutingModel:
        return Build.hosts(VirtualHost(("*",), routes), backends=backends)

    @staticmethod
    def hosts(*hosts: VirtualHost, backends: tuple[Pool | ServerGroup, ...] = ()) -> RoutingModel:
        return RoutingModel(
            listeners=(Listener(LISTENER, "127.0.0.1", 0, hosts),),
            pools={one.name: one for one in backends if isinstance(one, Pool)},
            server_groups={one.name: one for one in backends if isinstance(one, ServerGroup)},
        )


def _endpoints(ports: tuple[int, ...]) -> tuple[Endpoint, ...]:
    return tuple(Endpoint("127.0.0.1", port, "demo/server", "vllm", "/metrics") for port in ports)


@pytest.fixture
def build() -> type[Build]:
    return Build


class Gateway:
    """ADS server and Envoy, with a client."""

    def __init__(self, run: RunDirectory, settings: EnvoySettings) -> None:
        self.run = run
        self.settings = settings
        self.states: list[ProgrammingState] = []
        self.lines: list[str] = []
        self._changed = asyncio.Event()
        self.ads = self.new_ads()
        self.program = EnvoyProgram(find_envoy(), find_filter(), run, settings)
        self.envoy = self.new_process()
        self.client: aiohttp.ClientSession
        self.url = ""

    def new_ads(self) -> AdsServer:
        return AdsServer(on_state=self._on_state)

    def new_process(self) -> EnvoyProcess:
        return EnvoyProcess(self.program, on_line=lambda line: self.lines.append(line.message))

    def _on_state(self, state: ProgrammingState) -> None:
        self.states.append(state)
        self._changed.set()

    def snapshot(
        self, model: RoutingModel, models: Mapping[str, tuple[ModelInfo, ...]] | None = None
    ) -> Snapshot:
        return build_snapshot(
            model,
            resolved={},
            models=models or {},
            settings=self.settings,
            pick_socket=self.run.pick_socket,
        )

    async def offer(self, snapshot: Snapshot) -> ProgrammingState:
        """Offers it and waits for the verdict."""
        self.ads.offer(snapshot)
        return await self.verdict()

    async def verdict(self) -> ProgrammingState:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while self.ads.state.phase in (ProgrammingPhase.PENDING, ProgrammingPhase.DISCONNECTED):
                self._changed.clear()
                await self._changed.wait()
        return self.ads.state

    async def serve(
        self, model: RoutingModel, models: Mapping[str, tuple[ModelInfo, ...]] | None = None
    ) -> None:
        """Starts everything with this model."""
        self.run.prepare()
        await self.ads.start(self.run.discovery_socket)
        self.ads.offer(self.snapshot(model, models))
        await self.envoy.start()
        await self.envoy.ready(timeout_s=READY_TIMEOUT_S)
        state = await self.verdict()
        assert state.phase is ProgrammingPhase.PROGRAMMED, state
        await self.locate()

    async def locate(self) -> None:
        """Finds the port that the kernel chose."""
        _status, text = await self.envoy.admin.request("GET", "/listeners", format="json")
        found = [one["local_address"] for one in json.loads(text)["listener_statuses"]]
        (address,) = [one["socket_address"] for one in found if "socket_address" in one]
        port = address["port_value"]
        self.url = f"http://127.0.0.1:{port}"

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.client.get(self.url + path, headers=headers) as response:
            return response.status, await response.text()

    async def error(self, path: str, **headers: str) -> tuple[int, object]:
        status, text = await self.get(path, **headers)
        return status, json.loads(text)["error"]

    async def servers(self, path: str, *, count: int, concurrency: int = 16) -> Counter[str]:
        """Who answered how many of `count` requests; anything but a 200 is counted by status."""
        answers: Counter[str] = Counter()
        left = iter(range(count))

        async def work() -> None:
            for _number in left:
                async with self.client.get(self.url + path) as response:
                    body = await response.read()
                    good = response.status == 200
                    answers[json.loads(body)["server"] if good else str(response.status)] += 1

        async with asyncio.TaskGroup() as tasks:
            for _worker in range(concurrency):
                tasks.create_task(work())
        return answers


@pytest.fixture
def settings() -> EnvoySettings:
    return EnvoySettings()


@pytest.fixture
async def gateway(tmp_path: Path, settings: EnvoySettings) -> AsyncIterator[Gateway]:
    one = Gateway(RunDirectory(tmp_path / "run"), settings)
    async with aiohttp.ClientSession() as client:
        one.client = client
        try:
            yield one
        finally:
            await one.envoy.stop()
            await one.ads.stop()
