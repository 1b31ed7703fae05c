"""What the filter `pick` reports about responses: first byte, usage, and how they ended."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import aiohttp
import pytest

from .fake_picker import Done, First, Pick

if TYPE_CHECKING:
    from .conftest import World

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
USAGE, FIRST, EVENT_STREAM = 1, 2, 4
COMPLETE, SERVER_FAILED, CLIENT_LEFT, LOCAL = range(4)


async def post(world: World, model: str = "open", **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with world.client.post(CHAT, json={"model": model}, headers=named) as response:
        return response.status, await response.read()


async def test_a_json_response(world: World) -> None:
    assert (await post(world))[0] == 200
    done = await world.picker.wait(Done)
    pick = await world.picker.wait(Pick)
    assert (done.stream, done.end, done.status) == (pick.stream, COMPLETE, 200)
    assert done.flags == USAGE | FIRST
    assert (done.prompt_tokens, done.cached_tokens, done.completion_tokens) == (120, 64, 7)
    assert done.endpoint == world.servers[0].address
    assert 0 < done.ttft_us <= done.duration_us < 10_000_000
    assert [type(frame) for frame in world.picker.frames] == [Pick, Done]


async def test_a_stream_reports_its_first_byte_at_once(world: World) -> None:
    server = world.servers[0]
    async with world.client.post(
        CHAT, json={"model": "open", "stream": True}, headers={"x-behave": "stream", "x-hold": "1"}
    ) as response:
        await server.streaming.wait()
        first = await world.picker.wait(First)
        assert first.status == 200
        assert world.picker.of(Done) == []
        server.release.set()
        content = await response.read()
    assert content.endswith(b"data: [DONE]\n\n")
    done = await world.picker.wait(Done)
    assert (done.end, done.flags) == (COMPLETE, USAGE | FIRST | EVENT_STREAM)
    assert (done.prompt_tokens, done.cached_tokens, done.completion_tokens) == (120, 64, 7)
    assert done.ttft_us == first.ttft_us


async def test_a_stream_that_its_server_cuts(world: World) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(world, x_behave="cut")
    done = await world.picker.wait(Done)
    assert (done.end, done.status) == (SERVER_FAILED, 200)
    assert done.flags == FIRST | EVENT_STREAM
    assert done.endpoint == world.servers[0].address


async def test_a_stream_that_its_client_leaves(world: World) -> None:
    async with world.client.post(
        CHAT, json={"model": "open"}, headers={"x-behave": "stream", "x-hold": "1"}
    ) as response:
        await response.content.readany()
        response.close()
        done = await world.picker.wait(Done)
    assert (done.end, done.status) == (CLIENT_LEFT, 200)
    assert done.flags == FIRST | EVENT_STREAM


async def test_a_client_that_resets_while_the_server_thinks(world: World) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    body = b'{"model": "open"}'
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"x-behave: wait\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    await world.picker.wait(Pick)
    async with asyncio.timeout(20):
        while not world.servers[0].requests:
            await asyncio.sleep(0.005)
    transport_socket = writer.get_extra_info("socket")
    transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    done = await world.picker.wait(Done)
    assert (done.end, done.status, done.flags) == (CLIENT_LEFT, 0, 0)


async def test_back_pressure_is_a_complete_response(world: World) -> None:
    assert (await post(world, x_behave="busy"))[0] == 503
    done = await world.picker.wait(Done)
    assert (done.end, done.status, done.flags) == (COMPLETE, 503, FIRST)


async def test_an_empty_response_has_a_first_byte_too(world: World) -> None:
    assert await post(world, x_behave="empty") == (204, b"")
    done = await world.picker.wait(Done)
    assert (done.end, done.status, done.flags) == (COMPLETE, 204, FIRST)
    assert done.ttft_us > 0


async def test_a_server_that_refuses_connections(world: World) -> None:
    assert (await post(world, model="nobody"))[0] == 503
    done = await world.picker.wait(Done)
    assert (done.end, done.status, done.flags, done.ttft_us) == (SERVER_FAILED, 503, 0, 0)
    assert world.picker.of(First) == []


async def test_a_server_that_is_too_slow(world: World) -> None:
    assert (await post(world, model="impatient", x_behave="wait"))[0] == 504
    done = await world.picker.wait(Done)
    assert (done.end, done.status, done.flags) == (SERVER_FAILED, 504, 0)
    assert done.endpoint == world.servers[0].address


async def test_http2_clients_are_watched_alike(world: World) -> None:
    url = world.gateway.http2_url + CHAT
    async with world.client.post(
        url, json={"model": "open"}, headers={"x-behave": "stream"}
    ) as response:
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
    done = await world.picker.wait(Done)
    assert (done.end, done.flags) == (COMPLETE, USAGE | FIRST | EVENT_STREAM)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with world.client.post(
            url, json={"model": "open"}, headers={"x-behave": "cut"}
        ) as response:
            await response.read()
    assert (await world.picker.wait(Done, 2)).end == SERVER_FAILED
