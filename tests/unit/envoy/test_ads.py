"""The gRPC adapter on a unix socket, with a client that speaks the real messages."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from grpc import aio

from inferway.envoy.ads import AdsServer
from inferway.envoy.conversation import ProgrammingPhase, ProgrammingState
from inferway.envoy.messages import Resource, ResourceType
from inferway.envoy.snapshot import ResourceSet, Snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def snapshot(content: str) -> Snapshot:
    """Nothing but one cluster without endpoints."""
    cluster = Resource(ResourceType.CLUSTER, "a", content.encode())
    empty = ResourceSet.of([])
    return Snapshot(ResourceSet.of([cluster]), empty, empty, empty)


class Client:
    """One stream, as Envoy would have it."""

    def __init__(self, call) -> None:
        self.call = call
        self.nonces: dict[str, str] = {}

    async def say(self, kind: ResourceType, error: str = "") -> None:
        request = discovery_pb2.DiscoveryRequest(
            type_url=kind.value, response_nonce=self.nonces.get(kind.value, "")
        )
        if error:
            request.error_detail.message = error
        await self.call.write(request)

    async def hear(self):
        reply = await self.call.read()
        assert reply is not aio.EOF
        self.nonces[reply.type_url] = reply.nonce
        return reply


class World:
    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.states: list[ProgrammingState] = []
        self.changed = asyncio.Event()
        self.server = AdsServer(on_state=self.on_state)

    def on_state(self, state: ProgrammingState) -> None:
        self.states.append(state)
        self.changed.set()

    async def until(self, phase: ProgrammingPhase) -> ProgrammingState:
        async with asyncio.timeout(5):
            while self.server.state.phase is not phase:
                self.changed.clear()
                await self.changed.wait()
        return self.server.state

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with aio.insecure_channel(f"unix:{self.socket}") as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            call = stub.StreamAggregatedResources()
            yield Client(call)
            call.cancel()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    one = World(tmp_path / "ads.sock")
    await one.server.start(one.socket)
    yield one
    await one.server.stop()


async def take_all(client: Client) -> list[bytes]:
    """Plays a start: subscribes and acknowledges. What the clusters were."""
    await client.say(ResourceType.CLUSTER)
    clusters = await client.hear()
    await client.say(ResourceType.CLUSTER)
    await client.say(ResourceType.LISTENER)
    await client.hear()
    await client.say(ResourceType.LISTENER)
    return [one.value for one in clusters.resources]


async def test_offer_to_acknowledgement(world: World) -> None:
    assert world.server.state.phase is ProgrammingPhase.DISCONNECTED
    world.server.offer(snapshot("one"))
    async with world.client() as client:
        assert await take_all(client) == [b"one"]
        state = await world.until(ProgrammingPhase.PROGRAMMED)
        assert state.version == snapshot("one").version

        world.server.offer(snapshot("two"))
        reply = await client.hear()
        assert reply.version_info == snapshot("two").clusters.version
        await client.say(ResourceType.CLUSTER)
        await world.until(ProgrammingPhase.PROGRAMMED)
    await world.until(ProgrammingPhase.DISCONNECTED)


async def test_rejection_is_reported_and_the_next_stream_gets_the_good_one(world: World) -> None:
    world.server.offer(snapshot("good"))
    async with world.client() as client:
        await take_all(client)
        await world.until(ProgrammingPhase.PROGRAMMED)
        world.server.offer(snapshot("bad"))
        await client.hear()
        await client.say(ResourceType.CLUSTER, error="no such field")
        state = await world.until(ProgrammingPhase.REJECTED)
        assert [one.message for one in state.rejections] == ["no such field"]
    await world.until(ProgrammingPhase.DISCONNECTED)

    async with world.client() as client:
        assert await take_all(client) == [b"good"]
        assert (await world.until(ProgrammingPhase.REJECTED)).version == snapshot("bad").version
        world.server.offer(snapshot("better"))
        assert (await client.hear()).resources[0].value == b"better"
        await client.say(ResourceType.CLUSTER)
        await world.until(ProgrammingPhase.PROGRAMMED)


async def test_offers_before_and_between_streams(world: World) -> None:
    async with world.client() as client:
        await client.say(ResourceType.CLUSTER)
        await world.until(ProgrammingPhase.PENDING)
        world.server.offer(snapshot("one"))
        assert (await client.hear()).resources[0].value == b"one"
    await world.until(ProgrammingPhase.DISCONNECTED)
    world.server.offer(snapshot("two"))
    async with world.client() as client:
        assert await take_all(client) == [b"two"]


async def test_socket_is_private_and_replaces_a_stale_one(tmp_path: Path) -> None:
    socket = tmp_path / "ads.sock"
    socket.touch()
    server = AdsServer()
    await server.start(socket)
    assert socket.stat().st_mode & 0o777 == 0o600
    await server.stop()


async def test_impossible_socket_is_an_error(tmp_path: Path) -> None:
    server = AdsServer()
    with pytest.raises(OSError, match="discovery socket"):
        await server.start(tmp_path / "missing/ads.sock")
