"""The demo's clients: ordinary OpenAI requests over HTTP, with what each saw.

Two loads: short chats for the traffic split, and questions about shared documents for prefix
affinity. Both are seeded, so two runs send the same bytes.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SENTENCE = "Clause {number}.{line}: the supplier keeps a written record of delivery {code:08x}. "
REQUEST_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to send."""

    model: str
    prompt: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client saw of one request."""

    server: str  # the model server's name, from its own response header; empty when there was none
    status: int  # 0: no answer
    complete: bool  # the stream came to its proper end
    ttft_s: float
    prompt_tokens: int
    cached_tokens: int

    @property
    def good(self) -> bool:
        return self.status == 200 and self.complete


def chats(count: int, *, model: str, seed: int) -> list[Ask]:
    """Short questions that share nothing."""
    rng = np.random.default_rng(seed)
    return [
        Ask(model, f"Question {code:016x}: what is the answer?", 8)
        for code in rng.integers(0, 2**62, count)
    ]


def document_questions(
    documents: int, questions: int, *, model: str, document_bytes: int, seed: int
) -> list[Ask]:
    """Every question comes after the whole text of one document, in shuffled order."""
    rng = np.random.default_rng(seed)
    asks = []
    for number in range(documents):
        lines = document_bytes // len(SENTENCE) + 1
        codes = rng.integers(0, 2**32, lines)
        text = "".join(
            SENTENCE.format(number=number, line=line, code=code) for line, code in enumerate(codes)
        )
        asks += [Ask(model, f"{text}\nQuestion {q}?", 16) for q in range(questions)]
    return [asks[i] for i in rng.permutation(len(asks))]


async def send_all(
    base_url: str,
    asks: Sequence[Ask],
    *,
    concurrency: int,
    on_done: Callable[[Seen], None] | None = None,
) -> list[Seen]:
    """Closed loop with `concurrency` clients. Answers come in the order of completion."""
    seen: list[Seen] = []
    pending = iter(asks)

    async def client(session: aiohttp.ClientSession) -> None:
        for ask in pending:
            result = await send(session, base_url, ask)
            seen.append(result)
            if on_done:
                on_done(result)

    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(client(session))
    return seen


async def send(session: aiohttp.ClientSession, base_url: str, ask: Ask) -> Seen:
    """One streamed chat completion."""
    loop = asyncio.get_running_loop()
    body = {
        "model": ask.model,
        "messages": [{"role": "user", "content": ask.prompt}],
        "max_tokens": ask.output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started_s = loop.time()
    server, status, complete = "", 0, False
    first_s: float | None = None
    prompt_tokens = cached_tokens = 0
    try:
        async with session.post(f"{base_url}/v1/chat/completions", json=body) as reply:
            server, status = reply.headers.get("x-inference-pod", ""), reply.status
            async for line in reply.content:
                complete = complete or line.startswith(b"data: [DONE]")
                if not line.startswith(b"data: {"):
                    continue
                if first_s is None:
                    first_s = loop.time()
                usage = json.loads(line[6:]).get("usage")
                if usage:
                    details = usage.get("prompt_tokens_details") or {}
                    prompt_tokens = usage["prompt_tokens"]
                    cached_tokens = details.get("cached_tokens") or 0
    except (aiohttp.ClientError, TimeoutError):
        complete = False  # counts as an error, whatever had come before
    ttft_s = (first_s if first_s is not None else loop.time()) - started_s
    return Seen(server, status, complete, ttft_s, prompt_tokens, cached_tokens)
