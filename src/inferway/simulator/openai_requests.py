"""OpenAI request bodies, as far as an engine cares: model, prompt, limits, streaming.

Fields that do not change timing (temperature, stop, tools' meaning, …) are ignored. What vLLM
refuses is refused, with the same status and error type, because a gateway must hand such answers
through unchanged.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .tokens import Prompt, chat_prompt, text_prompt, token_prompt

ReplyKind = Literal["chat", "completion", "response"]
_COMPLETION_MAX_TOKENS = 16  # OpenAI's default for /v1/completions
_PROMPTS_MAX = 64


class ApiError(Exception):
    """An answer that is not 200, in vLLM's shape."""

    def __init__(
        self, status: int, message: str, kind: str = "BadRequestError", parameter: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.parameter = parameter

    def body(self) -> bytes:
        return json.dumps(
            {
                "error": {
                    "message": self.message,
                    "type": self.kind,
                    "param": self.parameter,
                    "code": self.status,
                }
            }
        ).encode()


@dataclass(frozen=True, slots=True)
class Generation:
    """A request for text."""

    kind: ReplyKind
    model: str | None
    prompts: tuple[Prompt, ...]
    stream: bool
    include_usage: bool
    max_tokens: int | None
    min_tokens: int
    ignore_eos: bool
    seed: int
    cache_salt: str


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A request for vectors."""

    model: str | None
    prompts: tuple[Prompt, ...]
    dimensions: int
    base64: bool


def parse_object(body: bytes) -> dict[str, object]:
    """ApiError 400 when the body is not a JSON object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"Invalid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(400, "The request body must be a JSON object")
    return value


def parse_generation(kind: ReplyKind, fields: Mapping[str, object]) -> Generation:
    """Reads a body of chat completions, completions or responses."""
    if _integer(fields, "n", 1, least=1) != 1:
        raise ApiError(400, "Only n=1 is simulated", parameter="n")
    options = fields.get("stream_options")
    return Generation(
        kind=kind,
        model=_text(fields, "model"),
        prompts=_prompts(kind, fields),
        stream=bool(fields.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        max_tokens=_max_tokens(kind, fields),
        min_tokens=_integer(fields, "min_tokens", 0, least=0) or 0,
        ignore_eos=bool(fields.get("ignore_eos")),
        seed=_integer(fields, "seed", 0) or 0,
        cache_salt=_text(fields, "cache_salt") or "",
    )


def parse_embedding(fields: Mapping[str, object]) -> EmbeddingRequest:
    """Reads a body of /v1/embeddings."""
    dimensions = _integer(fields, "dimensions", 64, least=1) or 64
    if dimensions > 8192:
        raise ApiError(400, "dimensions must be at most 8192", parameter="dimensions")
    return EmbeddingRequest(
        model=_text(fields, "model"),
        prompts=_text_or_tokens(fields, "input"),
        dimensions=dimensions,
        base64=fields.get("encoding_format") == "base64",
    )


def parse_tokenize(fields: Mapping[str, object]) -> Prompt:
    """Reads a body of /tokenize: a prompt or messages."""
    if "messages" in fields:
        return _chat(fields)
    text = _text(fields, "prompt")
    if text is None:
        raise ApiError(400, "prompt or messages is required", parameter="prompt")
    return text_prompt(text)


def _prompts(kind: ReplyKind, fields: Mapping[str, object]) -> tuple[Prompt, ...]:
    if kind == "chat":
        return (_chat(fields),)
    if kind == "completion":
        return _text_or_tokens(fields, "prompt")
    return (_response_input(fields),)


def _chat(fields: Mapping[str, object]) -> Prompt:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not all(isinstance(entry, dict) for entry in messages):
        raise ApiError(400, "messages must be a list of objects", parameter="messages")
    return chat_prompt(messages, fields.get("tools"))


def _response_input(fields: Mapping[str, object]) -> Prompt:
    messages: list[Mapping[str, object]] = []
    if instructions := _text(fields, "instructions"):
        messages.append({"role": "system", "content": instructions})
    given = fields.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    elif isinstance(given, list) and all(isinstance(entry, dict) for entry in given):
        messages.extend(given)
    else:
        raise ApiError(400, "input must be a string or a list of objects", parameter="input")
    return chat_prompt(messages, fields.get("tools"))


def _text_or_tokens(fields: Mapping[str, object], name: str) -> tuple[Prompt, ...]:
    """A string, a list of strings, a list of token ids, or a list of those."""
    given = fields.get(name)
    entries: list[object] = [given] if isinstance(given, str) or _is_tokens(given) else []
    if not entries and isinstance(given, list):
        entries = given
    if not entries or len(entries) > _PROMPTS_MAX:
        raise ApiError(400, f"{name} must hold 1 to {_PROMPTS_MAX} prompts", parameter=name)
    return tuple(_one_prompt(entry, name) for entry in entries)


def _one_prompt(entry: object, name: str) -> Prompt:
    if isinstance(entry, str):
        return text_prompt(entry)
    if isinstance(entry, list) and _is_tokens(entry):
        try:
            return token_prompt(entry)
        except ValueError as error:
            raise ApiError(400, str(error), parameter=name) from error
    raise ApiError(400, f"{name} must be text or token ids", parameter=name)


def _is_tokens(given: object) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(entry, int) and not isinstance(entry, bool) for entry in given)
    )


def _max_tokens(kind: ReplyKind, fields: Mapping[str, object]) -> int | None:
    if kind == "chat":
        modern = _integer(fields, "max_completion_tokens", None, least=1)
        return modern or _integer(fields, "max_tokens", None, least=1)
    if kind == "completion":
        return _integer(fields, "max_tokens", _COMPLETION_MAX_TOKENS, least=1)
    return _integer(fields, "max_output_tokens", None, least=1)


def _text(fields: Mapping[str, object], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiError(400, f"{name} must be a string", parameter=name)
    return value


def _integer(
    fields: Mapping[str, object], name: str, default: int | None, *, least: int | None = None
) -> int | None:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ApiError(400, f"{name} must be an integer", parameter=name)
    if least is not None and value < least:
        raise ApiError(400, f"{name} must be at least {least}, got {value}", parameter=name)
    return value
