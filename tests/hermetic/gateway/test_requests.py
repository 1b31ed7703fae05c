"""What an application developer sees: the official client, large and odd bodies, errors in OpenAI's
shape.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import openai
import pytest
import pytest_asyncio

from .running import running_gateway, servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from inferway.simulator.server import SimServer

    from .running import RunningGateway

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends() -> AsyncIterator[list[SimServer]]:
    async with servers(2, model="llama", adapters=("bot",), engine="instant") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    backends: list[SimServer], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    urls = [part for one in backends for part in ("--backend", f"http://{one.address}")]
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway(folder, *urls, models=("llama", "bot")) as running:
        yield running


async def test_official_client(gateway: RunningGateway) -> None:
    """One gateway for all of the client's calls: they do not influence each other."""
    messages = [{"role": "user", "content": "Hello"}]
    whole = await gateway.openai.chat.completions.create(
        model="llama", messages=messages, max_tokens=6
    )
    assert whole.usage.completion_tokens == 6
    assert whole.choices[0].finish_reason == "length"

    stream = await gateway.openai.chat.completions.create(
        model="bot",
        messages=messages,
        max_tokens=6,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert sum(bool(c.choices and c.choices[0].delta.content) for c in chunks) == 6
    assert chunks[-1].usage.completion_tokens == 6

    text = await gateway.openai.completions.create(model="llama", prompt="Once", max_tokens=3)
    assert text.usage.completion_tokens == 3
    vectors = await gateway.openai.embeddings.create(model="llama", input="words")
    assert len(vectors.data[0].embedding) > 0
    answer = await gateway.openai.responses.create(
        model="llama", input="Hello", max_output_tokens=5
    )
    assert answer.usage.output_tokens == 5

    listed = [model.id async for model in gateway.openai.models.list()]
    assert listed == ["bot", "llama"]
    assert (await gateway.openai.models.retrieve("bot")).id == "bot"
    with pytest.raises(openai.NotFoundError):
        await gateway.openai.models.retrieve("nobody")

    with pytest.raises(openai.NotFoundError) as unknown:
        await gateway.openai.chat.completions.create(model="nobody", messages=messages)
    assert unknown.value.code == "model_not_found"
    assert unknown.value.response.headers["x-request-id"]


async def test_large_bodies_arrive_whole(
    gateway: RunningGateway, backends: list[SimServer]
) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "x" * 10_000_000}]}
    status, _headers, reply = await gateway.post(json.dumps(body).encode())
    # The simulated engine's context is 131,072 tokens; its own words prove that it saw all.
    assert status == 400, reply
    assert "2500" in json.dumps(reply), reply

    body["messages"] = [{"role": "user", "content": "word " * 80_000}]
    status, _headers, reply = await gateway.post(json.dumps(body).encode())
    assert status == 200
    assert reply["usage"]["prompt_tokens"] > 90_000


async def test_too_large_body(gateway: RunningGateway) -> None:
    status, headers, reply = await gateway.post(b'{"model": "' + b"x" * (33 * 1024 * 1024))
    assert status == 413
    assert reply["error"]["code"] == "request_too_large"
    assert headers["x-request-id"]


async def test_other_paths_reach_a_server(gateway: RunningGateway) -> None:
    async with gateway.session.get(f"{gateway.url}/health") as reply:
        assert reply.status == 200
    async with gateway.session.get(f"{gateway.url}/nothing") as reply:
        assert reply.status == 404
        assert "x-inference-pod" in reply.headers, "the answer is the model server's own"


async def test_chunked_body(gateway: RunningGateway) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        text = json.dumps({**CHAT, "model": "llama", "note": "é" * 3000}, ensure_ascii=False)
        data = text.encode()
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    status, _headers, reply = await gateway.post(pieces())
    assert status == 200, reply
    assert reply["model"] == "llama"


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "says"),
    [
        (b'{"model": "llama", ', {}, 400, None, "JSON"),
        (b'{"messages": []}', {}, 400, "missing_required_parameter", "model"),
        (b'{"model": 5, "messages": []}', {}, 400, None, "model"),
        (b"model=llama", {"content-type": "application/x-www-form-urlencoded"}, 400, None, "json"),
        (b'{"model": "nobody", "messages": []}', {}, 404, "model_not_found", "nobody"),
    ],
)
async def test_client_errors(
    gateway: RunningGateway,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: str | None,
    says: str,
) -> None:
    got, reply_headers, reply = await gateway.post(body, headers=headers)
    assert got == status
    error = reply["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert says.lower() in error["message"].lower()
    if code:
        assert error["code"] == code
    assert reply_headers["content-type"].startswith("application/json")
    assert reply_headers["x-request-id"]


async def test_escaped_and_repeated_model_names(gateway: RunningGateway) -> None:
    for text in (
        '{"messages": [], "max_tokens": 1, "model": "ll\\u0061ma"}',
        '{"model": "nobody", "messages": [{"model": "x"}], "max_tokens": 1, "model": "llama"}',
        '{"mod\\u0065l": "llama", "max_tokens": 1, "messages": [{"content": "\\"model\\": 1"}]}',
    ):
        status, _headers, reply = await gateway.post(text.encode())
        assert (status, reply.get("model")) == (200, "llama"), text


async def test_request_id_is_kept_or_made(gateway: RunningGateway) -> None:
    _status, headers, _reply = await gateway.post(CHAT, headers={"x-request-id": "mine-1"})
    assert headers["x-request-id"] == "mine-1"
    _status, headers, _reply = await gateway.post(CHAT)
    assert len(headers["x-request-id"]) >= 32


async def test_spoofed_headers_do_not_route(
    gateway: RunningGateway, backends: list[SimServer]
) -> None:
    spoofed = {
        "x-gateway-destination-endpoint": "127.0.0.1:1",
        "x-gateway-model-name": "nobody",
        "x-gateway-base-model-name": "nobody",
    }
    for one in backends:
        one.requests.recent.clear()
    for _ in range(20):
        status, _headers, reply = await gateway.post(CHAT, headers=spoofed)
        assert status == 200, reply
    seen = [
        request.headers
        for one in backends
        for request in one.requests.recent
        if request.path == "/v1/chat/completions"
    ]
    assert len(seen) == 20
    assert all(one.get("x-gateway-destination-endpoint") != "127.0.0.1:1" for one in seen)
    assert all(one.get("x-gateway-model-name") == "llama" for one in seen)
    assert all(one.get("x-gateway-base-model-name") == "llama" for one in seen)
