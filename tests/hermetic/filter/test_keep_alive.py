"""Streams that wait in the picker's queue: comments first, and then the whole answer."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import httpx2
import openai
import pytest

from .fake_picker import Done, First, Pick, endpoints, queued, reject

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from .conftest import World

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
COMPLETE, SERVER_FAILED, CLIENT_LEFT, LOCAL = 0, 1, 2, 3
PING = b": ping\n\n"
PACE_MS = 30


@pytest.fixture
def slow_picker(world: World) -> World:
    """Every request waits; tests answer by hand."""
    world.picker.script = lambda pick: queued(pick.stream, PACE_MS)
    return world


async def stream(
    world: World,
    answer: Callable[[int], bytes] | None,
    *,
    path: str = CHAT,
    model: str = "patient",
    size: int = 10,
    pings: int = 3,
    **headers: str,
) -> tuple[bytes, aiohttp.ClientResponse]:
    """All that a client of HTTP/1.1 gets when the picker answers after some comments."""
    body = {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": "x" * size}],
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = b""
    async with world.client.post(path, json=body, headers=named) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        asked = answer is None
        async for piece in response.content.iter_any():
            content += piece
            if not asked and content.count(PING) >= pings:
                asked = True
                assert answer is not None
                world.picker.send(answer(world.picker.of(Pick)[-1].stream))
    return content, response


def placed(world: World) -> Callable[[int], bytes]:
    return lambda number: endpoints(number, world.servers[1].address, model="served")


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_comments_and_then_the_whole_answer(slow_picker: World, size: int) -> None:
    world = slow_picker
    content, response = await stream(world, placed(world), size=size, x_behave="chat")
    assert content.startswith(3 * PING)
    answer = content.replace(PING, b"")
    # The server was asked for usage that the client did not ask for.
    assert (answer.count(b"data: "), answer.endswith(b"data: [DONE]\n\n")) == (3, True)
    assert b"usage" not in answer.replace(b'"usage": null', b"")
    assert response.cookies["inferway-session"].value

    assert len(world.picker.of(Pick)) == 1
    (pick,) = world.picker.of(Pick)
    assert pick.keeps_alive
    done = await world.picker.wait(Done)
    assert (done.stream, done.end, done.status, done.finish) == (pick.stream, COMPLETE, 200, 1)
    assert (done.prompt_tokens, done.completion_tokens) == (120, 7)
    assert (done.endpoint, done.attempts) == (world.servers[1].address, 1)
    assert done.ttft_us >= 3 * PACE_MS * 1_000
    assert len(world.picker.of(First)) <= 1
    sent = json.loads(world.servers[1].bodies[-1])
    assert (sent["model"], len(sent["messages"][0]["content"])) == ("served", size)
    assert sent["stream_options"] == {"include_usage": True}


async def test_a_request_that_is_answered_in_time_goes_the_ordinary_way(world: World) -> None:
    def script(pick: Pick) -> bytes:
        address = world.servers[0].address
        return queued(pick.stream, 60_000) + endpoints(pick.stream, address, queued_us=5)

    world.picker.script = script
    content, _ = await stream(world, None, x_behave="chat")
    assert PING not in content
    assert content.endswith(b"data: [DONE]\n\n")


async def test_who_cannot_be_kept(world: World) -> None:
    """No stream; no known API; a route that says nothing of it."""
    for path, body in (
        (CHAT, {"model": "patient"}),
        ("/v1/other", {"model": "patient", "stream": True}),
        (CHAT, {"model": "open", "stream": True}),
    ):
        async with world.client.post(path, json=body) as response:
            assert response.status == 200
    assert [pick.keeps_alive for pick in world.picker.of(Pick)] == [False] * 3


async def test_a_refusal_is_an_error_event(slow_picker: World) -> None:
    def refuse(number: int) -> bytes:
        return reject(number, 429, 1_000, "rate_limit_error", "full", "come back", "ttl")

    for path, name in ((CHAT, ""), ("/v1/messages", "error"), ("/v1/responses", "error")):
        content, _ = await stream(slow_picker, refuse, path=path)
        lines = content.replace(PING, b"").decode().strip().split("\n")
        fields = dict(line.split(": ", 1) for line in lines)
        assert fields.get("event", "") == name
        event = json.loads(fields["data"])
        assert event["error"]["message"] == "come back"
        if path == CHAT:
            assert event["error"]["code"] == "full"
    done = await slow_picker.picker.wait(Done, 3)
    assert (done.end, done.status, done.endpoint) == (LOCAL, 429, "")


async def test_a_server_that_fails(slow_picker: World) -> None:
    world = slow_picker
    content, _ = await stream(world, placed(world), x_behave="busy")
    assert content.replace(PING, b"").startswith(b'data: {"error":{"message":"busy"')
    assert (await world.picker.wait(Done)).status == 503
    for behave, code in (("cut", b"stream_interrupted"), ("truncate", b"stream_truncated")):
        content, _ = await stream(world, placed(world), x_behave=behave)
        assert content.count(b'"error"') == 1
        assert code in content
        assert content.endswith(b"}}\n\n")
    done = await world.picker.wait(Done, 3)
    assert (done.end, done.fault) == (SERVER_FAILED, 1)


async def test_an_answer_that_is_no_stream(slow_picker: World) -> None:
    content, _ = await stream(slow_picker, placed(slow_picker), x_behave="echo")
    assert b'"code":"not_a_stream"' in content
    assert (await slow_picker.picker.wait(Done)).end == COMPLETE


async def test_a_server_that_gives_no_answer(slow_picker: World) -> None:
    content, _ = await stream(slow_picker, placed(slow_picker), x_behave="drop")
    assert content.replace(PING, b"").startswith(b'data: {"error":{"message":"The model server')
    done = await slow_picker.picker.wait(Done)
    assert (done.end, done.endpoint) == (SERVER_FAILED, slow_picker.servers[1].address)


async def test_a_client_that_leaves_frees_its_place(slow_picker: World) -> None:
    world = slow_picker
    body = {"model": "patient", "stream": True}
    async with world.client.post(CHAT, json=body) as response:
        async for piece in response.content.iter_any():
            assert piece == PING
            break
        response.close()
    done = await world.picker.wait(Done)
    assert (done.end, done.endpoint) == (CLIENT_LEFT, "")


async def test_a_client_that_leaves_while_it_is_served(slow_picker: World) -> None:
    world = slow_picker
    body = {"model": "patient", "stream": True}
    headers = {"x-behave": "stream", "x-hold": "1"}
    asked = False
    async with world.client.post(CHAT, json=body, headers=headers) as response:
        async for piece in response.content.iter_any():
            if piece == PING and not asked:
                asked = True
                number = world.picker.of(Pick)[0].stream
                world.picker.send(placed(world)(number))
            if b"two" in piece:
                break
        response.close()
    done = await world.picker.wait(Done)
    assert (done.end, done.endpoint) == (CLIENT_LEFT, world.servers[1].address)


@pytest.mark.parametrize("model", ["patient", "shut-patient"])
async def test_a_picker_that_dies(slow_picker: World, model: str) -> None:
    """What fails open goes on without it; what fails closed is refused."""
    world = slow_picker

    async def kill() -> None:
        await world.picker.wait(Pick)
        await asyncio.sleep(5 * PACE_MS / 1_000)
        await world.picker.stop()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(kill())
        content, _ = await stream(world, None, model=model, x_behave="chat")
    assert content.startswith(PING)
    if model == "patient":
        assert content.endswith(b"data: [DONE]\n\n")
    else:
        assert b"endpoint_picker_unavailable" in content


async def test_a_picker_that_comes_back_is_asked_again(slow_picker: World) -> None:
    world = slow_picker

    async def restart() -> None:
        await world.picker.wait(Pick)
        await asyncio.sleep(5 * PACE_MS / 1_000)
        first = world.picker.of(Pick)[0]
        await world.restart_picker(lambda pick: endpoints(pick.stream, world.servers[0].address))
        again = await world.picker.wait(Pick)
        assert (again.stream, again.repeated) == (first.stream, True)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(restart())
        content, _ = await stream(world, None, model="shut-patient", x_behave="chat")
    assert content.endswith(b"data: [DONE]\n\n")


async def test_a_client_of_http2(slow_picker: World) -> None:
    world = slow_picker
    body = {"model": "patient", "stream": True}
    for behave, last in (("chat", b"data: [DONE]\n\n"), ("cut", b"}}\n\n")):
        content = b""
        async with httpx2.AsyncClient(http1=False, http2=True, timeout=20) as client:
            url = f"{world.gateway.url}{CHAT}"
            headers = {"x-behave": behave}
            async with client.stream("POST", url, json=body, headers=headers) as response:
                assert (response.status_code, response.http_version) == (200, "HTTP/2")
                asked = False
                async for piece in response.aiter_raw():
                    content += piece
                    if not asked:
                        asked = True
                        world.picker.send(placed(world)(world.picker.of(Pick)[-1].stream))
        assert content.startswith(PING)
        assert content.endswith(last)


async def test_the_openai_client(slow_picker: World) -> None:
    world = slow_picker

    async def answer() -> None:
        pick = await world.picker.wait(Pick)
        await asyncio.sleep(5 * PACE_MS / 1_000)
        world.picker.send(placed(world)(pick.stream))

    async with (
        openai.AsyncOpenAI(
            base_url=f"{world.gateway.url}/v1",
            api_key="none",
            max_retries=0,
            default_headers={"x-behave": "stream"},
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(answer())
        chunks = await client.chat.completions.create(
            model="patient",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
        )
        texts = [chunk.choices[0].delta.content async for chunk in chunks if chunk.choices]
    assert texts == ["one", "two"]


async def test_many_at_once(slow_picker: World) -> None:
    """Each ends as it should, and each is reported once."""
    world = slow_picker
    behaviours = ("chat", "cut", "truncate", "busy")

    async def one(number: int) -> None:
        behave = behaviours[number % len(behaviours)]
        body = {"model": "patient", "stream": True}
        headers = {"x-behave": behave}
        async with world.client.post(CHAT, json=body, headers=headers) as response:
            content = b""
            async for piece in response.content.iter_any():
                content += piece
                if number % 7 == 0:
                    response.close()
                    return
        assert content.startswith(PING)
        assert (b'"error"' in content) == (behave != "chat")

    async def answer() -> None:
        await world.picker.wait(Pick, 100)
        await asyncio.sleep(2 * PACE_MS / 1_000)
        for pick in world.picker.of(Pick):
            world.picker.send(placed(world)(pick.stream))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(answer())
        for number in range(100):
            tasks.create_task(one(number))
    await world.picker.wait(Done, 100)
    await world.until_quiet()
    assert len({done.stream for done in world.picker.of(Done)}) == 100
    assert (await world.gateway.counters())["inferway_filter_panics_total"] == 0


async def test_a_client_that_does_not_read(slow_picker: World) -> None:
    """What it leaves unread is bounded, and then its stream ends."""
    world = slow_picker
    body = json.dumps({"model": "patient", "stream": True}).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nx-behave: flood\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port, limit=1 << 10)
    writer.write(head.encode() + body)
    await reader.readuntil(PING)
    pick = await world.picker.wait(Pick)
    world.picker.send(placed(world)(pick.stream))
    done = await world.picker.wait(Done)
    assert (done.end, done.finish) == (CLIENT_LEFT, 0)
    content = b""
    async with asyncio.timeout(20):
        while not content.endswith(b"\r\n0\r\n\r\n"):
            content = content[-1_000:] + await reader.read(1 << 20)
    assert b"client_too_slow" in content
    writer.close()


async def test_the_server_sees_no_difference(slow_picker: World) -> None:
    world = slow_picker
    server = world.servers[1]
    more = {"x_behave": "chat", "x_forwarded_for": "1.2.3.4", "x_request_id": "same"}
    await stream(world, placed(world), **more)
    world.picker.script = lambda pick: placed(world)(pick.stream)
    await stream(world, None, **more)
    relayed, ordinary = server.headers[-2:]
    assert relayed == ordinary
