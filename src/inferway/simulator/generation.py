"""From a parsed request to tokens on the wire.

A request is planned first (how long the answer will be, which text, which block hashes), then
handed to the engine; its tokens come back step by step. A client that goes away cancels its work
in the engine, as vLLM does.
"""

import asyncio
import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web

from . import raw_reply
from .driver import EngineDriver, Sink
from .faults import FaultRule
from .openai_replies import Reply, reply_for
from .openai_requests import ApiError, Generation
from .sequences import EngineRequest, FinishedRequest, FinishReason
from .tokens import TOKEN_BYTES, Filler, Prompt, block_hashes, cache_seed, natural_length

_ID_PREFIX = {"chat": "chatcmpl-", "completion": "cmpl-", "response": "resp_"}


@dataclass(frozen=True, slots=True)
class OutputPolicy:
    """How long answers are when the request does not say it."""

    mean_tokens: float = 200.0
    stop_early: bool = False
    """Whether the drawn length also ends answers below a given max_tokens, as real models do."""
    seed: int = 0

    def length(
        self, generation: Generation, prompt: Prompt, max_model_len: int
    ) -> tuple[int, FinishReason]:
        """Tokens of the answer and why it ends there. ApiError 400 when it cannot fit."""
        room = max_model_len - prompt.tokens
        limit = generation.max_tokens
        if room < 1 or (limit is not None and limit > room):
            raise ApiError(
                400,
                f"This model's maximum context length is {max_model_len} tokens. However, you "
                f"requested {prompt.tokens + (limit or 0)} tokens ({prompt.tokens} in the "
                f"messages, {limit or 0} in the completion).",
            )
        ceiling = room if limit is None else limit
        if generation.ignore_eos or (limit is not None and not self.stop_early):
            return ceiling, "length"
        seed = prompt.fingerprint ^ self.seed ^ generation.seed
        natural = max(natural_length(self.mean_tokens, seed=seed), generation.min_tokens)
        return (natural, "stop") if natural <= ceiling else (ceiling, "length")


class CountingSink:
    """Waits for the end of a sequence whose tokens nobody watches."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended: asyncio.Future[FinishedRequest | None] = (
            asyncio.get_running_loop().create_future()
        )

    def deliver(self, count: int, finished: FinishedRequest | None) -> None:
        if finished is not None and not self.ended.done():
            self.ended.set_result(finished)


class StreamingSink:
    """Writes each token to the connection; ends with None when a fault breaks the stream."""

    __slots__ = ("_chunks_left", "_index", "_reply", "_sent", "_text", "_transport", "ended")

    def __init__(
        self,
        transport: asyncio.Transport,
        reply: Reply,
        text: bytes,
        index: int,
        chunks_max: int | None,
    ) -> None:
        self._transport = transport
        self._reply = reply
        self._text = text
        self._index = index
        self._sent = 0
        self._chunks_left = chunks_max
        self.ended: asyncio.Future[FinishedRequest | None] = (
            asyncio.get_running_loop().create_future()
        )

    def deliver(self, count: int, finished: FinishedRequest | None) -> None:
        if self.ended.done() or self._transport.is_closing():
            return
        end = self._sent + count * TOKEN_BYTES
        reason = None if finished is None else finished.finish_reason
        words = self._text[self._sent : end]
        first = b"" if self._sent else self._reply.first(self._index)
        events = self._reply.tokens(words, self._index, reason)
        if first:
            events.insert(0, first)
        self._sent = end
        if self._chunks_left is not None:
            del events[self._chunks_left :]
            self._chunks_left -= len(events)
            if not self._chunks_left:
                finished = None
                self.ended.set_result(None)
        self._transport.write(b"".join([raw_reply.chunk(event) for event in events]))
        if finished is not None:
            self.ended.set_result(finished)


@dataclass(frozen=True, slots=True)
class _Planned:
    request: EngineRequest
    text: bytes


class TextGenerator:
    """Serves the three text routes of one server."""

    def __init__(
        self, driver: EngineDriver, *, policy: OutputPolicy, headers: Mapping[str, str]
    ) -> None:
        self.cancelled = 0
        self._driver = driver
        self._policy = policy
        self._headers = headers
        self._filler = Filler(policy.seed)
        self._random = random.Random(policy.seed)  # noqa: S311 - ids only need to differ
        self._sequence = 0

    async def answer(
        self,
        request: web.BaseRequest,
        generation: Generation,
        *,
        model: str,
        adapter: str | None,
        created_s: int,
        fault: FaultRule | None,
    ) -> raw_reply.RawReply:
        """Computes the answer and writes it. ApiError as long as nothing has been written."""
        planned = [self._plan(generation, prompt, model, adapter) for prompt in generation.prompts]
        given_id = request.headers.get("X-Request-Id") or f"{self._random.getrandbits(128):032x}"
        reply = reply_for(
            generation.kind,
            reply_id=_ID_PREFIX[generation.kind] + given_id,
            model=model if generation.model is None else generation.model,
            created_s=created_s,
            include_usage=generation.include_usage,
        )
        if generation.stream:
            return await self._stream(request, reply, planned, fault)
        return await self._collect(request, reply, planned, fault)

    async def prefill(self, prompts: Sequence[Prompt], *, model: str, adapter: str | None) -> None:
        """Runs prompts through the engine without an answer, as embeddings do."""
        sinks: list[tuple[EngineRequest, CountingSink]] = []
        for prompt in prompts:
            if prompt.tokens >= self._driver.engine.parameters.max_model_len:
                raise ApiError(400, "The input is longer than the model's maximum context length")
            hashes = self._hashes(prompt.data, model, adapter, "")
            sinks.append(
                (
                    EngineRequest(self._next_id(), prompt.tokens, 1, hashes, adapter),
                    CountingSink(),
                )
            )
        with self._submitted(sinks):
            for _, sink in sinks:
                await sink.ended

    def _plan(
        self, generation: Generation, prompt: Prompt, model: str, adapter: str | None
    ) -> _Planned:
        parameters = self._driver.engine.parameters
        tokens, reason = self._policy.length(generation, prompt, parameters.max_model_len)
        start = prompt.fingerprint ^ self._policy.seed ^ generation.seed
        text = self._filler.text(start, tokens)
        request = EngineRequest(
            request_id=self._next_id(),
            prompt_tokens=prompt.tokens,
            output_tokens=tokens,
            block_hashes=self._hashes(prompt.data + text, model, adapter, generation.cache_salt),
            adapter=adapter,
            max_tokens=generation.max_tokens,
            finish_reason=reason,
            token_ids=self._token_ids(prompt.data + text),
        )
        return _Planned(request, text)

    def _token_ids(self, data: bytes) -> Sequence[int]:
        """Of the full tokens, when there is a journal to show them."""
        if self._driver.engine.journal is None:
            return ()
        return array("I", data[: len(data) // TOKEN_BYTES * TOKEN_BYTES])

    def _hashes(self, data: bytes, model: str, adapter: str | None, salt: str) -> list[int]:
        return block_hashes(
            data,
            block_tokens=self._driver.engine.parameters.block_tokens,
            seed=cache_seed(model, adapter, salt),
        )

    def _next_id(self) -> str:
        self._sequence += 1
        return str(self._sequence)

    async def _stream(
        self,
        request: web.BaseRequest,
        reply: Reply,
        planned: list[_Planned],
        fault: FaultRule | None,
    ) -> raw_reply.RawReply:
        transport = raw_reply.transport_of(request)
        opening = reply.opening()
        transport.write(
            raw_reply.head(200, "text/event-stream; charset=utf-8", self._headers)
            + (b"" if request.keep_alive else b"Connection: close\r\n")
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + (raw_reply.chunk(opening) if opening else b"")
        )
        await _first_token_delay(fault)
        breaks = fault is not None and fault.mode in ("cut_stream", "end_early")
        chunks_max = fault.after_chunks if fault is not None and breaks else None
        if chunks_max == 0:
            return _break_off(request, transport, fault)
        sinks = [
            (entry.request, StreamingSink(transport, reply, entry.text, index, chunks_max))
            for index, entry in enumerate(planned)
        ]
        finished: list[FinishedRequest] = []
        with self._submitted(sinks):
            for _, sink in sinks:
                end = await sink.ended
                if end is None:
                    return _break_off(request, transport, fault)
                finished.append(end)
        closing = reply.closing([entry.text for entry in planned], finished)
        transport.write(raw_reply.chunk(closing) + raw_reply.LAST_CHUNK)
        return raw_reply.RawReply(keep_alive=request.keep_alive)

    async def _collect(
        self,
        request: web.BaseRequest,
        reply: Reply,
        planned: list[_Planned],
        fault: FaultRule | None,
    ) -> raw_reply.RawReply:
        await _first_token_delay(fault)
        sinks = [(entry.request, CountingSink()) for entry in planned]
        finished: list[FinishedRequest] = []
        with self._submitted(sinks):
            for _, sink in sinks:
                end = await sink.ended
                if end is not None:
                    finished.append(end)
        body = reply.body([entry.text for entry in planned], finished)
        if fault is not None and fault.mode == "cut_stream":
            transport = raw_reply.transport_of(request)
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            start = raw_reply.head(200, "application/json", self._headers)
            transport.write(start + length + body[: len(body) // 2])
            transport.close()
            return raw_reply.RawReply(keep_alive=False)
        return raw_reply.send(request, 200, "application/json", body, self._headers)

    @contextmanager
    def _submitted(self, sinks: "Sequence[tuple[EngineRequest, Sink]]") -> Iterator[None]:
        """The requests are in the engine; whatever has not ended on leaving is cancelled."""
        submitted: list[str] = []
        try:
            for engine_request, sink in sinks:
                self._driver.submit(engine_request, sink)
                submitted.append(engine_request.request_id)
            yield
        finally:
            self.cancelled += sum(self._driver.cancel(request_id) for request_id in submitted)


async def _first_token_delay(fault: FaultRule | None) -> None:
    if fault is not None and fault.mode == "slow_first_token":
        await asyncio.sleep(fault.seconds)


def _break_off(
    request: web.BaseRequest, transport: asyncio.Transport, fault: FaultRule | None
) -> raw_reply.RawReply:
    """Ends a stream as the fault wants it: connection gone, or a clean end that is too early."""
    if fault is not None and fault.mode == "end_early":
        transport.write(raw_reply.LAST_CHUNK)
        return raw_reply.RawReply(keep_alive=request.keep_alive)
    transport.close()
    return raw_reply.RawReply(keep_alive=False)
