"""What a route can ask of the filter: usage of every stream, sessions by cookie, headers."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest
from google.protobuf.struct_pb2 import Value

from .fake_picker import Done, Pick, endpoints

if TYPE_CHECKING:
    from .conftest import World

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
USAGE = 1


async def chat(world: World, body: dict[str, object], **headers: str) -> list[object]:
    """The events of a stream, without the last."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with world.client.post(
        CHAT, json={"model": "told", **body}, headers={"x-behave": "chat", **named}
    ) as response:
        lines = (await response.text()).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


@pytest.mark.parametrize("size", ["0", "7", "100", "100000"])
async def test_usage_is_accounted_and_kept_from_who_did_not_ask(world: World, size: str) -> None:
    events = await chat(world, {"stream": True}, x_bytes=size)
    assert [len(event["choices"]) for event in events] == [1, 1]
    done = await world.picker.wait(Done)
    assert done.flags & USAGE
    assert (done.prompt_tokens, done.completion_tokens) == (120, 7)
    assert (done.end, done.finish) == (0, 1)


@pytest.mark.parametrize(
    "options", [None, {}, {"include_usage": False}, {"x": 1}, {"include_usage": False, "x": [{}]}]
)
async def test_a_client_that_says_something_else_gets_no_usage(
    world: World, options: object
) -> None:
    events = await chat(world, {"stream_options": options, "stream": True})
    assert [len(event["choices"]) for event in events] == [1, 1]
    assert (await world.picker.wait(Done)).flags & USAGE


async def test_a_client_that_asks_for_usage_gets_it(world: World) -> None:
    asks = {"stream": True, "stream_options": {"include_usage": True}}
    events = await chat(world, asks)
    assert events[-1]["usage"]["prompt_tokens"] == 120
    assert (await world.picker.wait(Done)).flags & USAGE


async def test_a_body_that_asks_for_no_stream_is_left_alone(world: World) -> None:
    async with world.client.post(CHAT, json={"model": "told"}) as response:
        echo = await response.json()
    assert echo["body_bytes"] == len(json.dumps({"model": "told"}))


async def test_usage_and_another_model_at_once(world: World) -> None:
    first = world.servers[0].address
    world.picker.script = lambda pick: endpoints(pick.stream, first, model="a-much-longer-name")
    body = {"model": "told", "stream": True, "stream_options": {"x": 1}}
    async with world.client.post(CHAT, json=body) as response:
        echo = await response.json()
    body = {"model": "a-much-longer-name", "stream": True, "stream_options": {"x": 1}}
    assert echo["body_bytes"] == len(json.dumps(body)) + len('"include_usage":true,')
    assert echo["headers"]["content-length"] == str(echo["body_bytes"])


async def test_a_session_begins_with_a_cookie(world: World) -> None:
    body = {"model": "told"}
    async with aiohttp.ClientSession(
        world.gateway.url, cookie_jar=aiohttp.CookieJar(unsafe=True)
    ) as client:
        for _ in range(2):
            async with client.post(CHAT, json=body) as response:
                await response.read()
    first, second = await world.picker.wait(Pick, 1), await world.picker.wait(Pick, 2)
    assert len(first.session) == 32
    assert first.session == second.session


async def test_other_filters_restrict_the_choice(world: World) -> None:
    addresses = ["10.0.0.1:80", "[::1]:80"]
    value = Value()
    value.list_value.extend(addresses)
    encoded = base64.b64encode(value.SerializeToString()).decode()
    cases = [
        ({"x-test-subset": addresses[0]}, addresses[0]),
        ({"x-test-subset-list": encoded}, ",".join(addresses)),
        ({}, None),
    ]
    for count, (headers, subset) in enumerate(cases, 1):
        async with world.client.post(CHAT, json={"model": "told"}, headers=headers) as response:
            await response.read()
        pick = await world.picker.wait(Pick, count)
        assert bool(pick.flags & 4) == (subset is not None)
        assert pick.subset == (subset or "")


async def test_the_response_says_how_it_came_about(world: World) -> None:
    first = world.servers[0].address
    world.picker.script = lambda pick: endpoints(
        pick.stream, first, queued_us=1_500, reason="prefix 0.9"
    )
    async with world.client.post(
        CHAT, json={"model": "told"}, headers={"x-tenant": "t", "x-session-id": "s"}
    ) as response:
        headers = response.headers
    assert headers["x-inferway-endpoint"] == first
    assert headers["x-inferway-queue-ms"] == "1.500"
    assert headers["x-inferway-attempts"] == "1"
    assert headers["x-inferway-reason"] == "prefix 0.9"
    assert float(headers["x-inferway-overhead-ms"]) >= 0
    assert "set-cookie" not in headers
    assert (await world.picker.wait(Pick)).headers == (("x-tenant", "t"),)
    async with world.client.post(CHAT, json={"model": "open"}) as response:
        assert not [name for name in response.headers if name.startswith("x-inferway")]
