"""The filter `pick` in a real Envoy renames the model in the body, and touches no other byte."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from .fake_picker import Done, Pick, endpoints
from .gateway import BODY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .conftest import World

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
TARGET = 'open "v2"\\ü'
MARK = "\0"  # where the model's value stands
BODIES = {
    "first": '{"model": \0, "messages": [{"model": "open"}]}',
    "middle": '{ "a" : "\\u006dodel",\t"model":\0 ,"n":1.50}',
    "last": '{"messages": [], "x": "open", "model"\n:\0}',
    "twice": '{"model": "first", "b": 1, "model": \0}',
    "odd": '\r\n {"modelx": "open", "mod\\u0065l": \0, "ü": "\U0001f600"} \n',
}


def renamed(world: World, target: str = TARGET) -> None:
    there = world.servers[0].address
    world.picker.script = lambda pick: endpoints(pick.stream, there, model=target)


async def send(
    world: World, body: bytes | AsyncIterator[bytes], *, url: str = ""
) -> dict[str, Any]:
    data = io.BytesIO(body) if isinstance(body, bytes) else body
    async with world.client.post(f"{url}{CHAT}", data=data, headers=JSON) as response:
        assert response.status == 200, await response.text()
        content: dict[str, Any] = await response.json()
        return content


def sent_to_server(reply: dict[str, Any], body: bytes) -> None:
    assert reply["body_bytes"] == len(body)
    assert reply["body_sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("place", sorted(BODIES))
@pytest.mark.parametrize("name", ['"open"', '"op\\u0065n"', '"open\\/\\ud83d\\ude00"'])
async def test_only_the_name_changes(world: World, place: str, name: str, http2: bool) -> None:
    renamed(world)
    before, after = BODIES[place].split(MARK)
    url = world.gateway.http2_url if http2 else ""
    reply = await send(world, f"{before}{name}{after}".encode(), url=url)
    wanted = f"{before}{json.dumps(TARGET, ensure_ascii=False)}{after}".encode()
    sent_to_server(reply, wanted)
    assert reply["headers"]["content-length"] == str(len(wanted))
    assert reply["headers"]["x-gateway-model-name"] == TARGET
    assert (await world.picker.wait(Pick)).model == json.loads(name)


@pytest.mark.parametrize("size", [1, 7, 4_000])
async def test_a_body_without_an_announced_length(world: World, size: int) -> None:
    renamed(world)
    body = json.dumps({"pad": "é" * 3_000, "model": "open", "end": [1, 2]}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    reply = await send(world, pieces())
    sent_to_server(reply, body.replace(b'"open"', json.dumps(TARGET, ensure_ascii=False).encode()))


@pytest.mark.parametrize("place", ["first", "last"])
async def test_ten_megabytes(world: World, place: str) -> None:
    renamed(world)
    prompt = json.dumps("x" * 10_000_000)
    before, after = BODIES[place].replace("[", f"[{prompt}, 1, ").split(MARK)
    if place == "last":
        before = before.replace(", 1, ]", "]")
    reply = await send(world, f'{before}"open"{after}'.encode())
    wanted = f"{before}{json.dumps(TARGET, ensure_ascii=False)}{after}".encode()
    sent_to_server(reply, wanted)


async def test_as_large_as_bodies_may_be(world: World) -> None:
    """Renaming needs a little more room than the body itself: it must not hit the limit."""
    renamed(world, "o" * 1000)
    frame = '{"model": "open", "prompt": "%s"}'
    body = (frame % ("x" * (BODY_BYTES_MAX - len(frame) + 2))).encode()
    assert len(body) == BODY_BYTES_MAX
    reply = await send(world, body)
    sent_to_server(reply, body.replace(b'"open"', b'"%s"' % (b"o" * 1000)))


async def test_a_request_that_keeps_its_model_keeps_its_body(world: World) -> None:
    renamed(world, "")
    body = b'{"model": "open"}'
    reply = await send(world, body)
    sent_to_server(reply, body)
    assert reply["headers"]["x-gateway-model-name"] == "open"


async def test_a_stream_is_answered_as_ever(world: World) -> None:
    renamed(world)
    headers = {**JSON, "x-behave": "stream"}
    body = b'{"stream": true, "model": "open"}'
    async with world.client.post(CHAT, data=body, headers=headers) as response:
        text = await response.text()
    assert text.endswith("data: [DONE]\n\n")
    assert (await world.picker.wait(Done)).completion_tokens == 7
