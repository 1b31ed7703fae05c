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
from typing import Final

import numpy as np

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


@dataclass(frozen=True, slots=True)
class Reject:
    stream: int
    status: int
    retry_after_ms: int
    type: str
    code: str
    message: str
    reason: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    pass


Answer = Welcome | Endpoints | Reject | Heartbeat


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


def hello(filter_id: int = 1, *, major: int = 1, minor: int = 0) -> bytes:
    return _frame(0x01, struct.pack("<IHHQ", MAGIC, major, minor, filter_id))


def pick(
    stream: int,
    *,
    pool: str = "default/pool",
    model: str = "llama",
    objective: str = "",
    priority: int = NO_PRIORITY,
    repeated: bool = False,
    blocks: int = 8,
    prompt_bytes: int | None = None,
    max_tokens: int = 0,
    seed: int = 0,
) -> bytes:
    """`seed` chooses the prompt: equal seeds are equal prompts."""
    hashes = np.arange(1, blocks + 1, dtype=np.uint64) * _GOLDEN_RATIO ^ np.uint64(seed)
    size = blocks * 256 + 10 if prompt_bytes is None else prompt_bytes
    fixed = struct.pack(
        "<QQIIIiBBI",
        *(stream, 1_000, size + 100, size, max_tokens, priority),
        *(1, 2 * repeated, blocks),
    )
    texts = b"".join(map(_text, (pool, model, objective, "", "", f"request-{stream}")))
    return _frame(0x02, fixed + texts + hashes.tobytes())


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
) -> bytes:
    flags = (usage is not None) | 2 * bool(ttft_us) | 4 * event_stream
    fixed = struct.pack("<QBBHII", stream, end, flags, status, ttft_us, duration_us)
    return _frame(0x04, fixed + struct.pack("<III", *(usage or (0, 0, 0))) + _text(endpoint))


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


def _answer(kind: int, payload: bytes) -> Answer:
    if kind == 0x81:
        magic, major, minor, epoch, heartbeat_ms = struct.unpack_from("<IHHQI", payload)
        if magic != MAGIC:
            raise ValueError(f"magic: {magic:#x}")
        return Welcome(major, minor, epoch, heartbeat_ms)
    if kind == 0x82:
        stream, uncached, context = struct.unpack_from("<QII", payload)
        addresses, model = _texts(payload, 16, 2)
        return Endpoints(stream, uncached, context, tuple(addresses.split(",")), model)
    if kind == 0x83:
        stream, status, retry_after_ms = struct.unpack_from("<QHI", payload)
        return Reject(stream, status, retry_after_ms, *_texts(payload, 14, 4))
    if kind == 0x84:
        return Heartbeat()
    raise ValueError(f"frame type: {kind:#x}")


def _texts(payload: bytes, start: int, count: int) -> list[str]:
    texts = []
    for _ in range(count):
        (size,) = struct.unpack_from("<H", payload, start)
        texts.append(payload[start + 2 : start + 2 + size].decode())
        start += 2 + size
    return texts


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<H", len(encoded)) + encoded


def _frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<IB", len(payload) + 1, kind) + payload
