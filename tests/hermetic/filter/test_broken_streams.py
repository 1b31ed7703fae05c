"""What clients see of streams that break after their first byte: never success, never a retry."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import httpx2
import openai
import pytest

from .fake_picker import Done, Pick

if TYPE_CHECKING:
    from .conftest import World

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
COMPLETE, SERVER_FAILED = 0, 1
TRUNCATED, RESET, IDLE = 1, 2, 4
CODES = {"truncate": "stream_truncated", "cut": "stream_interrupted"}
FAULTS = {"truncate": TRUNCATED, "cut": RESET}


async def read(
    world: World, path: str, behave: str, *, model: str = "open", hold: str = ""
) -> bytes:
    """All that a client of HTTP/1.1 gets, also when the response is not complete."""
    body = {"model": model, "stream": True}
    content = b""
    headers = {"x-behave": behave, "x-hold": hold}
    async with world.client.post(path, json=body, headers=headers) as response:
        assert response.status == 200
        try:
            async for piece in response.content.iter_any():
                content += piece
        except aiohttp.ClientPayloadError:
            assert behave == "cut" or hold
    return content


def last_event(content: bytes) -> tuple[str, dict[str, object]]:
    """Name and data of the last event."""
    assert content.endswith(b"\n\n")
    lines = content.decode().rstrip("\n").split("\n\n")[-1].split("\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return fields.get("event", ""), json.loads(fields["data"])


@pytest.mark.parametrize("behave", ["truncate", "cut"])
async def test_the_error_is_an_event_of_the_api(world: World, behave: str) -> None:
    name, event = last_event(await read(world, CHAT, behave))
    assert (name, event["error"]["code"]) == ("", CODES[behave])
    name, event = last_event(await read(world, "/v1/responses", behave))
    assert (name, event["type"], event["code"]) == ("error", "error", CODES[behave])
    name, event = last_event(await read(world, "/v1/messages", behave))
    assert (name, event["type"], event["error"]["type"]) == ("error", "error", "api_error")


@pytest.mark.parametrize("behave", ["truncate", "cut"])
async def test_it_is_reported_and_never_repeated(world: World, behave: str) -> None:
    await read(world, CHAT, behave)
    done = await world.picker.wait(Done)
    assert (done.end, done.status, done.fault, done.finish) == (
        SERVER_FAILED,
        200,
        FAULTS[behave],
        0,
    )
    assert (done.attempts, done.endpoint) == (1, world.servers[0].address)
    assert sum(sum(server.requests.values()) for server in world.servers) == 1


async def test_a_stream_that_falls_silent(world: World) -> None:
    content = await read(world, CHAT, "cut", model="brief", hold="1")
    assert last_event(content)[1]["error"]["code"] == "stream_timeout"
    done = await world.picker.wait(Done)
    assert (done.end, done.fault) == (SERVER_FAILED, IDLE)


async def test_a_whole_stream_is_left_alone(world: World) -> None:
    content = await read(world, CHAT, "stream")
    assert b"error" not in content
    assert content.endswith(b"data: [DONE]\n\n")
    done = await world.picker.wait(Done)
    assert (done.end, done.fault, done.finish, done.attempts) == (COMPLETE, 0, 1, 1)


async def test_a_stream_of_no_known_api_is_left_alone(world: World) -> None:
    content = await read(world, "/v1/other", "truncate")
    assert b"error" not in content
    done = await world.picker.wait(Done)
    assert (done.end, done.fault, done.finish) == (COMPLETE, 0, 0)


async def test_half_a_json_body_is_no_success(world: World) -> None:
    body = {"model": "open"}
    async with world.client.post(CHAT, json=body, headers={"x-behave": "half"}) as response:
        assert await response.read() == b'{"choices": ['
    done = await world.picker.wait(Done)
    assert (done.end, done.fault, done.finish) == (SERVER_FAILED, TRUNCATED, 0)


@pytest.mark.parametrize("behave", ["truncate", "cut"])
async def test_the_openai_client_raises(world: World, behave: str) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{world.gateway.url}/v1",
        api_key="none",
        max_retries=0,
        default_headers={"x-behave": behave},
    ) as client:
        messages = [{"role": "user", "content": "hello"}]
        stream = await client.chat.completions.create(
            model="open",
            messages=messages,
            stream=True,  # type: ignore[arg-type]
        )
        seen = [await anext(stream), await anext(stream)]
        assert [chunk.choices[0].delta.content for chunk in seen] == ["one", "two"]
        with pytest.raises(openai.APIError) as error:
            await anext(stream)
        assert error.value.code == CODES[behave]


@pytest.mark.parametrize("behave", ["truncate", "cut"])
async def test_a_client_of_http2_gets_the_event(world: World, behave: str) -> None:
    body = {"model": "open", "stream": True}
    content = b""
    async with httpx2.AsyncClient(http1=False, http2=True, timeout=20) as client:
        url = f"{world.gateway.url}{CHAT}"
        async with client.stream("POST", url, json=body, headers={"x-behave": behave}) as response:
            assert (response.status_code, response.http_version) == (200, "HTTP/2")
            try:
                async for piece in response.aiter_raw():
                    content += piece
            except httpx2.RemoteProtocolError:
                assert behave == "cut"
    assert last_event(content)[1]["error"]["code"] == CODES[behave]


async def test_a_thousand_broken_streams_break_nothing_else(world: World) -> None:
    async def one(number: int) -> None:
        behave = ("cut", "truncate", "stream")[number % 3]
        content = await read(world, CHAT, behave)
        assert (b"error" in content) == (behave != "stream")

    for _ in range(10):
        await asyncio.gather(*(one(number) for number in range(100)))
    last = await world.picker.wait(Done, 1_000)
    assert len({pick.stream for pick in world.picker.of(Pick)}) == 1_000
    assert last.endpoint == world.servers[0].address
