"""The filter's side of the pick protocol, in Python.

Problem: tests, benchmarks and people who look into a running picker need to speak to it without
Envoy. Model: one function per frame that a filter sends, arguments with the values of an ordinary
request as defaults, and `Answers`, which cuts what the picker sends. It is written from
docs/pick-protocol.md and shares no code with the native codec, so each checks the other. It
keeps no state of streams and is slow: nothing on a request's path uses it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC: Final = 0x59574649
NO_PRIORITY: Final = -(2**31)
FRAME_BYTES_MAX: Final = 4 * 1024 * 1024
_GOLDEN_RATIO: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Welcome:
    major: int
    minor: int
    epoch: int
    heartbeat_ms: int


@dataclass(frozen=True, slots=True)
class Endpoints:
    stream: int
    charged_uncached: int
    charged_context: int
    endpoints: tuple[str, ...]
    model: str
    queued_us: int = 0
    ttft_deadline_ms: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    stream: int
    status: int
    retry_after_ms: int
    type: str
    code: str
    message: str
    reason: str
    retry: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    pass


@dataclass(frozen=True, slots=True)
class Queued:
    stream: int
    keepalive_ms: int


Answer = Welcome | Endpoints | Reject | Heartbeat | Queued


class Answers:
    """Cuts the picker's bytes into frames. ValueError on a frame that is broken or not known."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Answer]:
        buffer = self._rest + data
        answers: list[Answer] = []
        start = 0
        while len(buffer) - start >= 4:
            (size,) = struct.unpack_from("<I", buffer, start)
            if not 1 <= size <= FRAME_BYTES_MAX:
                raise ValueError(f"frame size: {size}")
            if len(buffer) - start - 4 < size:
                break
            start += 4
            answers.append(_answer(buffer[start], buffer[start + 1 : start + size]))
            start += size
        self._rest = buffer[start:]
        return answers


def hello(filter_id: int = 1, *, major: int = 1, minor: int = 1) -> bytes:
    return _frame(0x01, struct.pack("<IHHQ", MAGIC, major, minor, filter_id))


def pick(
    stream: int,
    *,
    pool: str = "default/pool",
    model: str = "llama",
    objective: str = "",
    priority: int = NO_PRIORITY,
    repeated: bool = False,
    received_ns: int = 1_000,
    blocks: int = 8,
    prompt_bytes: int | None = None,
    max_tokens: int = 0,
    seed: int = 0,
    streamed: bool = False,
    fairness: str = "",
    session: str = "",
    slo_ttft_ms: int = 0,
    slo_tpot_ms: int = 0,
    ttl_ms: int = 0,
    user: str = "",
    subset: str | None = None,
    exclude: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
    tools: bool = False,
    keeps_alive: bool = False,
) -> bytes:
    """`seed` chooses the prompt: equal seeds are equal prompts."""
    hashes = np.arange(1, blocks + 1, dtype=np.uint64) * _GOLDEN_RATIO ^ np.uint64(seed)
    size = blocks * 256 + 10 if prompt_bytes is None else prompt_bytes
    bits = (streamed, repeated, subset is not None, tools, keeps_alive)
    flags = sum(bit << place for place, bit in enumerate(bits))
    fixed = struct.pack(
        "<QQIIIiBBI",
        *(stream, received_ns, size + 100, size, max_tokens, priority),
        *(1, flags, blocks),
    )
    texts = map(_text, (pool, model, objective, fairness, session, f"request-{stream}"))
    wishes = struct.pack("<III", slo_ttft_ms, slo_tpot_ms, ttl_ms)
    hints = map(_text, (user, subset or "", exclude))
    pairs = (_text(name) + _text(value) for name, value in headers.items())
    count = struct.pack("<H", len(headers))
    return _frame(0x02, b"".join((fixed, *texts, hashes.tobytes(), wishes, *hints, count, *pairs)))


def first(stream: int, *, ttft_us: int = 1_000, status: int = 200) -> bytes:
    return _frame(0x03, struct.pack("<QIH", stream, ttft_us, status))


def done(
    stream: int,
    *,
    end: int = 0,
    status: int = 200,
    ttft_us: int = 1_000,
    duration_us: int = 2_000,
    usage: tuple[int, int, int] | None = None,
    event_stream: bool = False,
    endpoint: str = "",
    attempts: int = 1,
    retry_after_ms: int = 0,
    fault: int = 0,
    finish: int = 0,
) -> bytes:
    flags = (usage is not None) | 2 * bool(ttft_us) | 4 * event_stream
    fixed = struct.pack("<QBBHII", stream, end, flags, status, ttft_us, duration_us)
    used = struct.pack("<III", *(usage or (0, 0, 0)))
    ended = struct.pack("<BIBB", attempts, retry_after_ms, fault, finish)
    return _frame(0x04, fixed + used + _text(endpoint) + ended)


def opened(
    stream: int,
    *,
    endpoint: str,
    uncached: int = 0,
    context: int = 0,
    phase: int = 0,
    pool: str = "default/pool",
    model: str = "llama",
) -> bytes:
    fixed = struct.pack("<QIIB", stream, uncached, context, phase)
    return _frame(0x05, fixed + _text(pool) + _text(model) + _text(endpoint))


def fault(
    endpoint: str,
    *,
    cause: int,
    status: int = 0,
    retry_after_ms: int = 0,
    pool: str = "default/pool",
) -> bytes:
    fixed = struct.pack("<BHI", cause, status, retry_after_ms)
    return _frame(0x06, _text(pool) + _text(endpoint) + fixed)


def _answer(kind: int, payload: bytes) -> Answer:
    if kind == 0x81:
        magic, major, minor, epoch, heartbeat_ms = struct.unpack_from("<IHHQI", payload)
        if magic != MAGIC:
            raise ValueError(f"magic: {magic:#x}")
        return Welcome(major, minor, epoch, heartbeat_ms)
    if kind == 0x82:
        stream, uncached, context = struct.unpack_from("<QII", payload)
        (addresses, model), start = _texts(payload, 16, 2)
        queued_us, deadline_ms = struct.unpack_from("<II", payload, start)
        (reason,), _ = _texts(payload, start + 8, 1)
        chosen = tuple(addresses.split(","))
        return Endpoints(stream, uncached, context, chosen, model, queued_us, deadline_ms, reason)
    if kind == 0x83:
        stream, status, retry_after_ms = struct.unpack_from("<QHI", payload)
        (kind_of_error, code, message, reason), start = _texts(payload, 14, 4)
        texts = (kind_of_error, code, message, reason)
        return Reject(stream, status, retry_after_ms, *texts, payload[start])
    if kind == 0x84:
        return Heartbeat()
    if kind == 0x85:
        return Queued(*struct.unpack_from("<QI", payload))
    raise ValueError(f"frame type: {kind:#x}")


def _texts(payload: bytes, start: int, count: int) -> tuple[list[str], int]:
    """So many texts, and where they end."""
    texts = []
    for _ in range(count):
        (size,) = struct.unpack_from("<H", payload, start)
        texts.append(payload[start + 2 : start + 2 + size].decode())
        start += 2 + size
    return texts, start


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<H", len(encoded)) + encoded


def _frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<IB", len(payload) + 1, kind) + payload
