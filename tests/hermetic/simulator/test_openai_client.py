"""The official client against a simulated server."""

import asyncio
import base64
import struct
from typing import Any

import aiohttp
import openai
import pytest

from inferway.simulator.app import SimOptions
from inferway.simulator.server import SimServer

pytestmark = pytest.mark.hermetic
MODEL = "base-model"
QUESTION: list[Any] = [{"role": "user", "content": "why is the sky blue? " * 40}]


async def test_chat(client: openai.AsyncOpenAI, server: SimServer) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, max_tokens=12
    )
    assert raw.headers["x-inference-pod"] == server.name == "sim-0"
    answer = raw.parse()
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.role) == ("length", "assistant")
    assert choice.message.content is not None
    assert len(choice.message.content.split()) == 12
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


async def test_the_second_time_the_prompt_is_cached_and_the_answer_the_same(
    client: openai.AsyncOpenAI,
) -> None:
    answers = [
        await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12)
        for _ in range(2)
    ]
    cached = [
        answer.usage.prompt_tokens_details.cached_tokens
        for answer in answers
        if answer.usage is not None and answer.usage.prompt_tokens_details is not None
    ]
    assert answers[0].usage is not None
    assert cached == [0, answers[0].usage.prompt_tokens // 16 * 16]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content


async def test_a_conversation_reuses_question_and_answer(client: openai.AsyncOpenAI) -> None:
    first = await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=160)
    assert first.usage is not None
    following = [
        *QUESTION,
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "and at night?"},
    ]
    second = await client.chat.completions.create(model=MODEL, messages=following, max_tokens=5)
    assert second.usage is not None
    details = second.usage.prompt_tokens_details
    assert details is not None
    assert details.cached_tokens is not None
    assert details.cached_tokens > first.usage.prompt_tokens + 100


async def test_streamed_chat(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_completion_tokens=7,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    words = [chunk.choices[0].delta.content for chunk in chunks[1:-1]]
    assert len(words) == 7
    assert all(words)
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [*[None] * 7, "length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7
    assert len({chunk.id for chunk in chunks}) == 1


async def test_without_a_limit_the_answer_stops_by_itself(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert answer.choices[0].finish_reason == "stop"
    longer = await client.chat.completions.create(
        model=MODEL, messages=QUESTION, extra_body={"min_tokens": 900}
    )
    assert longer.usage is not None
    assert longer.usage.completion_tokens == 900


async def test_completions_of_several_prompts(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model=MODEL, prompt=["one", "two"], max_tokens=3)
    assert answer.id.startswith("cmpl-")
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 6)
    stream = await client.completions.create(
        model=MODEL, prompt=["one", "two"], max_tokens=3, stream=True
    )
    texts = ["", ""]
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in answer.choices]


async def test_completions_of_token_ids(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model=MODEL, prompt=list(range(100)))
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (100, 16)


async def test_embeddings(client: openai.AsyncOpenAI, http: aiohttp.ClientSession) -> None:
    answer = await client.embeddings.create(model=MODEL, input=["a", "b", "a"], dimensions=8)
    vectors = [entry.embedding for entry in answer.data]
    assert [len(vector) for vector in vectors] == [8, 8, 8]
    assert vectors[0] == vectors[2] != vectors[1]
    body = {"model": MODEL, "input": "a", "dimensions": 8, "encoding_format": "base64"}
    async with http.post("/v1/embeddings", json=body) as reply:
        coded = (await reply.json())["data"][0]["embedding"]
    assert list(struct.unpack("8f", base64.b64decode(coded))) == pytest.approx(vectors[0])


async def test_responses(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model=MODEL, input="why?", max_output_tokens=5)
    assert len(answer.output_text.split()) == 5
    assert answer.status == "incomplete"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 5
    complete = await client.responses.create(model=MODEL, input="why?")
    assert complete.status == "completed"


async def test_streamed_responses(client: openai.AsyncOpenAI) -> None:
    stream = await client.responses.create(
        model=MODEL, input="why?", max_output_tokens=3, stream=True
    )
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds.count("response.output_text.delta") == 3
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == 3
    assert len(last.response.output_text.split()) == 3


async def test_models_and_adapters(client: openai.AsyncOpenAI) -> None:
    cards = (await client.models.list()).data
    assert {card.id: card.model_dump()["parent"] for card in cards} == {
        MODEL: None,
        "base-alias": None,
        "tuned": MODEL,
    }
    for name in ("tuned", "base-alias"):
        answer = await client.chat.completions.create(model=name, messages=QUESTION, max_tokens=2)
        assert answer.model == name


async def test_adapters_do_not_share_the_cache(client: openai.AsyncOpenAI) -> None:
    for name in (MODEL, "tuned"):
        answer = await client.chat.completions.create(model=name, messages=QUESTION, max_tokens=2)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens_details.cached_tokens == 0


async def test_unknown_model(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody", messages=QUESTION)
    assert caught.value.type == "NotFoundError"
    assert "The model `nobody` does not exist." in caught.value.message


async def test_too_long_for_the_model(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 131072"):
        await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=200_000)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"{}", 400),
        ("GET", "/v1/chat/completions", None, 405),
        ("GET", "/nowhere", None, 404),
        ("POST", "/tokenize", b"{}", 400),
    ],
)
async def test_errors_are_json(
    http: aiohttp.ClientSession, method: str, path: str, body: bytes | None, status: int
) -> None:
    async with http.request(method, path, data=body) as reply:
        assert reply.status == status
        assert (await reply.json())["error"]["code"] == status


async def test_small_routes(http: aiohttp.ClientSession) -> None:
    for path in ("/health", "/ping"):
        async with http.get(path) as reply:
            assert (reply.status, await reply.read()) == (200, b"")
    async with http.get("/version") as reply:
        assert "version" in await reply.json()
    async with http.post("/tokenize", json={"prompt": "abcdefgh"}) as reply:
        assert (await reply.json())["count"] == 2


async def test_large_chunked_bodies(http: aiohttp.ClientSession, server: SimServer) -> None:
    async def pieces() -> Any:
        yield b'{"model":"base-model","max_tokens":1,"prompt":"'
        for _ in range(100):
            yield b"x" * 4_000
        yield b'"}'

    async with http.post("/v1/completions", data=pieces()) as reply:
        assert (await reply.json())["usage"]["prompt_tokens"] == 100_000
    seen = server.requests.recent[-1]
    assert seen.body_bytes > 400_000
    assert seen.headers["transfer-encoding"] == "chunked"


async def test_connections_are_kept_unless_asked_otherwise(server: SimServer) -> None:
    async def ask(extra: bytes) -> tuple[bytes, bool]:
        reader, writer = await asyncio.open_connection(*server.address.split(":"))
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n" + extra + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        try:
            closed = await asyncio.wait_for(reader.read(), 0.2) == b""
        except TimeoutError:
            closed = False
        writer.close()
        await writer.wait_closed()
        return head, closed

    head, closed = await ask(b"")
    assert (b"connection: close" in head.lower(), closed) == (False, False)
    head, closed = await ask(b"Connection: close\r\n")
    assert (b"connection: close" in head.lower(), closed) == (True, True)


async def test_a_client_that_leaves_frees_the_engine(
    client: openai.AsyncOpenAI, server: SimServer
) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=100_000, stream=True
    )
    async for _ in stream:
        break
    assert server.engine.num_running == 1
    await stream.close()
    async with asyncio.timeout(5):
        while server.engine.has_work:
            await asyncio.sleep(0.01)
    assert server.cancelled == 1
    assert server.engine.blocks.referenced == 0


@pytest.mark.parametrize("options", [SimOptions(model=MODEL, engine="instant")])
async def test_the_instant_engine_answers_at_once(client: openai.AsyncOpenAI) -> None:
    async with asyncio.timeout(10):
        answer = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=50_000
        )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 50_000


async def test_requests_are_batched(client: openai.AsyncOpenAI, server: SimServer) -> None:
    await asyncio.gather(
        *(
            client.completions.create(model=MODEL, prompt=f"number {number}", max_tokens=50)
            for number in range(20)
        )
    )
    iterations = server.engine.counters.iteration_tokens
    assert iterations.count < 500
    assert server.requests.by_path["/v1/completions"] == 20
    assert server.requests.by_model[MODEL] == 20
