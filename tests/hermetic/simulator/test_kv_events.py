"""Simulated servers publish their KV events as vLLM does, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
import zmq
import zmq.asyncio

from inferway.simulator.app import SimOptions, running_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.hermetic
TIMEOUT_S = 20.0
PROMPT = "word " * 100  # 500 bytes, with the role markers 127 tokens


@pytest.fixture
def context() -> Iterator[zmq.asyncio.Context]:
    context = zmq.asyncio.Context()
    yield context
    context.destroy(linger=0)


async def ask(address: str, prompt: str, max_tokens: int = 1) -> None:
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{address}/v1/chat/completions", json=body) as reply,
    ):
        assert reply.status == 200


async def replayed(context: zmq.asyncio.Context, port: int, since: int) -> list[tuple[int, Any]]:
    batches = []
    async with asyncio.timeout(TIMEOUT_S):
        # A REQ socket would take the first reply only.
        with context.socket(zmq.DEALER) as socket, socket.connect(f"tcp://127.0.0.1:{port}"):
            await socket.send_multipart([b"", since.to_bytes(8, "big")])
            while True:
                _, number, batch = await socket.recv_multipart()
                if number == b"\xff" * 8:
                    assert batch == b""
                    return batches
                batches.append((int.from_bytes(number, "big"), msgspec.msgpack.decode(batch)))


async def test_events_are_published_and_replayed(context: zmq.asyncio.Context) -> None:
    options = SimOptions(engine="instant", model="m", kv_events_port=0, kv_replay_port=0)
    async with running_servers(options) as (server,), AsyncExitStack() as sockets:
        publisher = server.kv_events
        assert publisher is not None
        assert publisher.replay_port is not None
        subscriber = sockets.enter_context(context.socket(zmq.SUB))
        subscriber.subscribe(b"kv@")
        subscriber.connect(f"tcp://127.0.0.1:{publisher.port}")
        seen: list[int] = []
        asked = 0
        async with asyncio.timeout(TIMEOUT_S):
            while not seen:  # a subscription takes a moment to arrive
                asked += 1
                await ask(server.address, f"{asked} {PROMPT}")
                if await subscriber.poll(50):
                    topic, number, batch = await subscriber.recv_multipart()
                    assert topic == b"kv@sim-0@m"
                    _, events, rank = msgspec.msgpack.decode(batch)
                    assert rank == 0
                    assert events[0][0] == "BlockStored"
                    assert events[0][2] is None
                    assert len(events[0][3]) == 16 * len(events[0][1]) > 0
                    seen.append(int.from_bytes(number, "big"))
        await ask(server.address, "another prompt " * 50)
        everything = await replayed(context, publisher.replay_port, 0)
        assert [number for number, _ in everything] == list(range(len(everything)))
        assert len(everything) >= 2
        assert await replayed(context, publisher.replay_port, len(everything) - 1) == [
            everything[-1]
        ]
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{server.address}/sim/reset"),
        ):
            pass
        (last,) = await replayed(context, publisher.replay_port, len(everything))
        assert last[1][1] == [["AllBlocksCleared"]]


async def test_a_port_that_is_taken_is_told() -> None:
    options = SimOptions(engine="instant", kv_events_port=0)
    async with running_servers(options) as (server,):
        assert server.kv_events is not None
        again = SimOptions(engine="instant", kv_events_port=server.kv_events.port)
        with pytest.raises(OSError, match=r"KV events at 127\.0\.0\.1"):
            async with running_servers(again):
                pass
