"""OpenAI replies as bytes: JSON bodies and server-sent events.

Everything that does not change from token to token is encoded once per request. Output words
contain nothing that JSON would escape, so a token's event is its head, the word and its tail.
"""

import base64
import json
import random
from array import array
from dataclasses import dataclass
from typing import Protocol

from .openai_requests import EmbeddingRequest, ReplyKind
from .sequences import FinishedRequest
from .tokens import TOKEN_BYTES

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a whole reply."""

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

    @classmethod
    def total(cls, finished: list[FinishedRequest]) -> "Usage":
        return cls(
            prompt_tokens=sum(end.prompt_tokens for end in finished),
            cached_tokens=sum(end.cached_tokens for end in finished),
            output_tokens=sum(end.output_tokens for end in finished),
        )

    def chat(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.output_tokens,
            "completion_tokens": self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def response(self) -> dict[str, object]:
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt_tokens + self.output_tokens,
        }


class Reply(Protocol):
    """The wire form of one request's answer."""

    def opening(self) -> bytes:
        """Events to send as soon as the request is accepted."""

    def first(self, index: int) -> bytes:
        """Events before the first token of a choice."""

    def tokens(self, words: bytes, index: int, finish_reason: str | None) -> list[bytes]:
        """One event per token; with a reason the last token is the last one of its choice."""

    def closing(self, texts: list[bytes], finished: list[FinishedRequest]) -> bytes:
        """Events after all choices have ended."""

    def body(self, texts: list[bytes], finished: list[FinishedRequest]) -> bytes:
        """The whole answer when it is not streamed."""


def reply_for(
    kind: ReplyKind, *, reply_id: str, model: str, created_s: int, include_usage: bool
) -> Reply:
    """The wire form for one of the three routes."""
    if kind == "response":
        return ResponseReply(reply_id, model, created_s)
    form = _ChatForm if kind == "chat" else _CompletionForm
    return ChoiceReply(form, reply_id, model, created_s, include_usage=include_usage)


@dataclass(frozen=True, slots=True)
class _Form:
    """What differs between chat completions and completions."""

    stream_object: str
    body_object: str
    before_word: str
    after_word: str
    role_delta: str | None


_ChatForm = _Form(
    stream_object="chat.completion.chunk",
    body_object="chat.completion",
    before_word='"delta":{"content":"',
    after_word='"},"logprobs":null,"finish_reason":',
    role_delta='"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null',
)
_CompletionForm = _Form(
    stream_object="text_completion",
    body_object="text_completion",
    before_word='"text":"',
    after_word='","logprobs":null,"finish_reason":',
    role_delta=None,
)


class ChoiceReply:
    """Chat completions and completions."""

    __slots__ = ("_fields", "_form", "_heads", "_include_usage", "_prefix", "_tail")

    def __init__(
        self, form: _Form, reply_id: str, model: str, created_s: int, *, include_usage: bool
    ) -> None:
        self._form = form
        self._include_usage = include_usage
        self._fields = {"id": reply_id, "created": created_s, "model": model}
        self._prefix = (
            f'data: {{"id":{json.dumps(reply_id)},"object":"{form.stream_object}",'
            f'"created":{created_s},"model":{json.dumps(model)},"choices":['
        ).encode()
        self._heads: dict[int, bytes] = {}
        self._tail = f"{form.after_word}null}}]}}\n\n".encode()

    def opening(self) -> bytes:
        return b""

    def first(self, index: int) -> bytes:
        if self._form.role_delta is None:
            return b""
        return self._prefix + f'{{"index":{index},{self._form.role_delta}}}]}}\n\n'.encode()

    def tokens(self, words: bytes, index: int, finish_reason: str | None) -> list[bytes]:
        head, tail = self._heads.get(index, b""), self._tail
        if not head:
            head = self._prefix + f'{{"index":{index},{self._form.before_word}'.encode()
            self._heads[index] = head
        if finish_reason is None and len(words) == TOKEN_BYTES:
            return [head + words + tail]
        events = [
            head + words[start : start + TOKEN_BYTES] + tail
            for start in range(0, len(words), TOKEN_BYTES)
        ]
        if finish_reason is not None:
            end = f'{self._form.after_word}"{finish_reason}","stop_reason":null}}]}}\n\n'
            events[-1] = head + words[-TOKEN_BYTES:] + end.encode()
        return events

    def closing(self, texts: list[bytes], finished: list[FinishedRequest]) -> bytes:
        if not self._include_usage:
            return DONE
        usage = json.dumps(Usage.total(finished).chat(), separators=(",", ":")).encode()
        return self._prefix + b'],"usage":' + usage + b"}\n\n" + DONE

    def body(self, texts: list[bytes], finished: list[FinishedRequest]) -> bytes:
        choices: list[dict[str, object]] = []
        for index, (text, end) in enumerate(zip(texts, finished, strict=True)):
            content: dict[str, object] = {"text": text.decode()}
            if self._form.role_delta is not None:
                content = {"message": {"role": "assistant", "content": text.decode()}}
            choices.append(
                {
                    "index": index,
                    **content,
                    "logprobs": None,
                    "finish_reason": end.finish_reason,
                    "stop_reason": None,
                }
            )
        return json.dumps(
            {
                **self._fields,
                "object": self._form.body_object,
                "choices": choices,
                "usage": Usage.total(finished).chat(),
            }
        ).encode()


class ResponseReply:
    """The responses API; its events are numbered."""

    __slots__ = ("_created_s", "_id", "_item_id", "_model", "_sequence")

    def __init__(self, reply_id: str, model: str, created_s: int) -> None:
        self._id = reply_id
        self._item_id = f"msg_{reply_id.removeprefix('resp_')}"
        self._model = model
        self._created_s = created_s
        self._sequence = 0

    def opening(self) -> bytes:
        started = self._response("in_progress", [], None)
        return self._event("response.created", {"response": started}) + self._event(
            "response.in_progress", {"response": started}
        )

    def first(self, index: int) -> bytes:
        item = {**self._item(b"", "in_progress"), "content": []}
        return self._event(
            "response.output_item.added", {"output_index": 0, "item": item}
        ) + self._event("response.content_part.added", {**self._place(), "part": self._part(b"")})

    def tokens(self, words: bytes, index: int, finish_reason: str | None) -> list[bytes]:
        text = words.decode()
        place = self._place()
        return [
            self._event(
                "response.output_text.delta",
                {**place, "delta": text[start : start + TOKEN_BYTES], "logprobs": []},
            )
            for start in range(0, len(text), TOKEN_BYTES)
        ]

    def closing(self, texts: list[bytes], finished: list[FinishedRequest]) -> bytes:
        text = texts[0]
        done = self._completed(text, finished)
        return b"".join(
            (
                self._event(
                    "response.output_text.done",
                    {**self._place(), "text": text.decode(), "logprobs": []},
                ),
                self._event(
                    "response.content_part.done", {**self._place(), "part": self._part(text)}
                ),
                self._event(
                    "response.output_item.done",
                    {"output_index": 0, "item": self._item(text, "completed")},
                ),
                self._event("response.completed", {"response": done}),
            )
        )

    def body(self, texts: list[bytes], finished: list[FinishedRequest]) -> bytes:
        return json.dumps(self._completed(texts[0], finished)).encode()

    def _completed(self, text: bytes, finished: list[FinishedRequest]) -> dict[str, object]:
        limited = finished[0].finish_reason == "length"
        response = self._response(
            "incomplete" if limited else "completed",
            [self._item(text, "completed")],
            Usage.total(finished).response(),
        )
        if limited:
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        return response

    def _response(
        self, status: str, output: list[dict[str, object]], usage: dict[str, object] | None
    ) -> dict[str, object]:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created_s,
            "status": status,
            "model": self._model,
            "output": output,
            "usage": usage,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "temperature": 1.0,
            "top_p": 1.0,
        }

    def _item(self, text: bytes, status: str) -> dict[str, object]:
        return {
            "id": self._item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [self._part(text)],
        }

    @staticmethod
    def _part(text: bytes) -> dict[str, object]:
        return {"type": "output_text", "text": text.decode(), "annotations": [], "logprobs": []}

    def _place(self) -> dict[str, object]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, fields: dict[str, object]) -> bytes:
        body = json.dumps({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return f"event: {kind}\ndata: {body}\n\n".encode()


def embedding_body(given: EmbeddingRequest, *, model: str) -> bytes:
    """The answer of /v1/embeddings; one text always has the same vector."""
    data: list[dict[str, object]] = []
    for index, prompt in enumerate(given.prompts):
        source = random.Random(prompt.fingerprint)  # noqa: S311 - reproducible vectors
        vector = array("f", (source.uniform(-1, 1) for _ in range(given.dimensions)))
        coded = base64.b64encode(vector.tobytes()).decode() if given.base64 else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": coded})
    tokens = sum(prompt.tokens for prompt in given.prompts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json.dumps({"object": "list", "model": model, "data": data, "usage": usage}).encode()
