"""The filter `route` in a real Envoy: the model out of the body, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from .fake_picker import Done, Pick
from .gateway import BODY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .conftest import World

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
SPOOFED = {
    "x-gateway-model-name": "plain",
    "x-gateway-base-model-name": "plain",
    "x-gateway-destination-endpoint": "127.0.0.1:1",
    "x-gateway-destination-endpoint-served": "127.0.0.1:1",
    "x-gateway-destination-endpoint-subset": "127.0.0.1:1",
}


async def answer(
    world: World, data: bytes | AsyncIterator[bytes], path: str = CHAT, **headers: str
) -> tuple[int, str, bytes]:
    """Status, content type and body of a POST."""
    named = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    sent = io.BytesIO(data) if isinstance(data, bytes) else data
    async with world.client.post(path, data=sent, headers=named) as response:
        assert response.headers["x-request-id"] if response.status >= 400 else True
        return response.status, response.headers["content-type"], await response.read()


def error(message: str, code: str, param: str | None = None) -> bytes:
    content = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return json.dumps({"error": content}, separators=(",", ":")).encode()


async def test_the_model_becomes_a_header_and_chooses_the_route(world: World) -> None:
    async with world.client.post(CHAT, json={"messages": [], "model": "plain-1"}) as response:
        echo = await response.json()
    assert echo["headers"]["x-gateway-model-name"] == "plain-1"
    assert "x-gateway-destination-endpoint" not in echo["headers"]
    assert world.picker.of(Pick) == []

    async with world.client.post(CHAT, json={"model": "open-\u00e9\n"[:6]}) as response:
        echo = await response.json()
    pick = await world.picker.wait(Pick)
    assert (pick.pool, pick.model) == ("ns/open", "open-\u00e9")
    assert echo["headers"]["x-gateway-destination-endpoint"] == world.servers[0].address


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_trust_headers_of_the_client_reach_nobody(world: World, method: str) -> None:
    body = json.dumps({"model": "open-1"}).encode() if method == "POST" else None
    async with world.client.request(
        method, "/v1/completions", data=body, headers=JSON | SPOOFED
    ) as response:
        echo = await response.json()
    # The spoofed model would have gone to the route without a pool.
    assert (await world.picker.wait(Pick)).pool == "ns/open"
    assert echo["headers"]["x-gateway-destination-endpoint"] == world.servers[0].address
    left = set(SPOOFED) & set(echo["headers"])
    expected = {"x-gateway-destination-endpoint"}
    assert left == (expected | {"x-gateway-model-name"} if method == "POST" else expected)
    assert echo["headers"].get("x-gateway-model-name") in (None, "open-1")


async def test_ten_megabytes_arrive_as_they_were_sent(world: World) -> None:
    content = "x" * (10 << 20)
    body = json.dumps(
        {"messages": [{"role": "user", "content": content}], "model": "open"}
    ).encode()
    async with world.client.post(CHAT, data=io.BytesIO(body), headers=JSON) as response:
        echo = await response.json()
    assert echo["body_sha256"] == hashlib.sha256(body).hexdigest()
    pick = await world.picker.wait(Pick)
    assert pick.body_bytes == len(body)
    assert pick.prompt_bytes > 10 << 20
    assert len(pick.hashes) == 1168


async def test_http2_carries_large_bodies_as_well(world: World) -> None:
    body = json.dumps({"prompt": "y" * (3 << 20), "model": "open"}).encode()
    url = world.gateway.http2_url + "/v1/completions"
    async with world.client.post(url, data=io.BytesIO(body), headers=JSON) as response:
        echo = await response.json()
    assert echo["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert (await world.picker.wait(Pick)).body_bytes == len(body)
    assert (await world.picker.wait(Done)).status == 200


async def test_any_cut_of_a_chunked_body_gives_the_same_pick(world: World) -> None:
    body = json.dumps({"prompt": "z" * 5000, "model": "op\\u0065n", "max_tokens": 9}).encode()
    body = body.replace(b"\\\\u", b"\\u")

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]
            await asyncio.sleep(0)

    for size in (7, 1000, len(body)):
        status, _, _ = await answer(world, pieces(size), "/v1/completions")
        assert status == 200
    picks = [await world.picker.wait(Pick, number) for number in (1, 2, 3)]
    assert {pick.model for pick in picks} == {"open"}
    assert {pick.max_tokens for pick in picks} == {9}
    assert {pick.body_bytes for pick in picks} == {len(body)}
    assert len({pick.hashes for pick in picks}) == 1
    assert len(picks[0].hashes) == 5000 // 256


async def test_trailers_end_a_body(world: World) -> None:
    body = b'{"model": "open-1"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
        b"content-type: application/json\r\ntrailer: x-sum\r\nconnection: close\r\n\r\n"
        b"%x\r\n%s\r\n0\r\nx-sum: 1\r\n\r\n" % (len(body), body)
    )
    reply = await reader.read()
    writer.close()
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (await world.picker.wait(Pick)).model == "open-1"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"messages": []}',
            error("You must provide a model parameter.", "missing_required_parameter", "model"),
        ),
        (
            b'{"model": 5}',
            error("The model parameter must be a string.", "missing_required_parameter", "model"),
        ),
        (
            b'{"model": "a\\nb"}',
            error(
                "The model parameter must be 1 to 1024 bytes long and without control characters.",
                "invalid_value",
                "model",
            ),
        ),
        (
            b'{"model": ""}',
            error(
                "The model parameter must be 1 to 1024 bytes long and without control characters.",
                "invalid_value",
                "model",
            ),
        ),
    ],
)
async def test_a_body_without_a_usable_model_is_refused(
    world: World, body: bytes, expected: bytes
) -> None:
    assert await answer(world, body) == (400, "application/json", expected)
    assert world.picker.of(Pick) == []


async def test_malformed_json_is_told_where(world: World) -> None:
    before = await world.gateway.counters()
    for body, offset in ((b'{"model": open}', 10), (b'{"model": "open"', 16), (b"", 0)):
        status, content_type, reply = await answer(world, body)
        assert (status, content_type) == (400, "application/json")
        content = json.loads(reply)["error"]
        assert content["message"].startswith("The request body is not valid JSON: ")
        assert content["message"].endswith(f" at byte {offset}.")
        assert (content["type"], content["code"]) == ("invalid_request_error", "invalid_json")
    after = await world.gateway.counters()
    name = "inferway_malformed_requests_total"
    assert after[name] - before[name] == 3


async def test_a_bad_beginning_is_answered_at_the_end_of_a_large_body(world: World) -> None:
    status, _, reply = await answer(world, b"no" + b" " * (4 << 20))
    assert status == 400
    assert json.loads(reply)["error"]["message"].endswith(" at byte 1.")


async def test_anthropic_clients_get_errors_in_their_shape(world: World) -> None:
    _, _, reply = await answer(world, b"{}", "/v1/messages")
    assert json.loads(reply) == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "You must provide a model parameter.",
        },
    }


async def test_the_content_type_must_be_json_when_there_is_one(world: World) -> None:
    expected = error("The content type must be application/json.", "invalid_content_type")
    body = b'{"model": "open"}'
    assert await answer(world, body, content_type="text/plain") == (
        400,
        "application/json",
        expected,
    )
    assert (await answer(world, body, content_type="application/vnd.api+json; a=b"))[0] == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n"
        b"connection: close\r\n\r\n%s" % (len(body), body)
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def test_a_body_that_is_too_large_is_refused(world: World) -> None:
    message = f"The request body is larger than {BODY_BYTES_MAX} bytes."
    expected = error(message, "request_too_large")

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(13):
            yield b"x" * (1 << 20)

    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1)
    )
    reply = await reader.readuntil(expected)
    writer.close()
    assert reply.startswith(b"HTTP/1.1 413 Payload Too Large\r\n")

    try:
        status, content_type, body = await answer(world, pieces())
    except aiohttp.ClientConnectionError:
        # The client was still sending when the connection was closed.
        counters = await world.gateway.counters()
        assert counters["inferway_too_large_requests_total"] == 2
    else:
        assert (status, content_type, body) == (413, "application/json", expected)


async def test_other_paths_pass_as_they_are(world: World) -> None:
    status, _, reply = await answer(world, b"{broken", "/v1/tokenize")
    assert (status, json.loads(reply)["body_bytes"]) == (200, 7)
    assert "x-gateway-model-name" not in json.loads(reply)["headers"]
    large = b" " * (BODY_BYTES_MAX + 5)
    status, _, reply = await answer(world, large, "/v1/tokenize")
    assert json.loads(reply)["body_bytes"] == len(large)
    status, _, reply = await answer(world, b"--x", "/v1/files", content_type="multipart/form-data")
    assert status == 200
    picks = [await world.picker.wait(Pick, number) for number in (1, 2, 3)]
    assert [(pick.kind, pick.model, pick.hashes) for pick in picks] == [(0, "", ())] * 3

    status, _, reply = await answer(world, b'{"model": "plain", "prompt": "a"}', "/v1/tokenize")
    assert json.loads(reply)["headers"]["x-gateway-model-name"] == "plain"
    assert len(world.picker.of(Pick)) == 3
