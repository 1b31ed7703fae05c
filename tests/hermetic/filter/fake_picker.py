"""A scripted picker: its side of the pick protocol in plain Python, under a test's control.

It shares no code with the real one: frames are cut and built with `struct` straight from
docs/pick-protocol.md, so that a misreading of the document shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = 0x59574649
WAIT_S = 20.0
HEARTBEAT_MS = 50


class Reader:
    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + layout, self._payload, self._at)
        self._at += struct.calcsize("<" + layout)
        return values

    def text(self) -> str:
        (length,) = self.take("H")
        self._at += length
        return self._payload[self._at - length : self._at].decode()


@dataclass(frozen=True, slots=True)
class Hello:
    magic: int
    major: int
    minor: int
    filter_id: int


@dataclass(frozen=True, slots=True)
class Pick:
    stream: int
    received_ns: int
    body_bytes: int
    prompt_bytes: int
    max_tokens: int
    priority: int
    kind: int
    flags: int
    pool: str
    model: str
    objective: str
    fairness: str
    session: str
    request_id: str
    hashes: tuple[int, ...]
    slo_ttft_ms: int
    slo_tpot_ms: int
    ttl_ms: int
    user: str
    subset: str
    exclude: str
    headers: tuple[tuple[str, str], ...]

    @property
    def streaming(self) -> bool:
        return bool(self.flags & 1)

    @property
    def repeated(self) -> bool:
        return bool(self.flags & 2)

    @property
    def keeps_alive(self) -> bool:
        return bool(self.flags & 16)


@dataclass(frozen=True, slots=True)
class First:
    stream: int
    ttft_us: int
    status: int


@dataclass(frozen=True, slots=True)
class Done:
    stream: int
    end: int
    flags: int
    status: int
    ttft_us: int
    duration_us: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    endpoint: str
    attempts: int
    retry_after_ms: int
    fault: int
    finish: int


@dataclass(frozen=True, slots=True)
class Open:
    stream: int
    charged_uncached: int
    charged_context: int
    phase: int
    pool: str
    model: str
    endpoint: str


Frame = Hello | Pick | First | Done | Open
F = TypeVar("F", Hello, Pick, First, Done, Open)


def read_frame(kind: int, payload: bytes) -> Frame:
    reader = Reader(payload)
    match kind:
        case 0x01:
            return Hello(*reader.take("IHHQ"))
        case 0x02:
            numbers = reader.take("QQIIIiBBI")
            texts = [reader.text() for _ in range(6)]
            hashes = reader.take(f"{numbers[8]}Q")
            wishes = reader.take("III")
            hints = [reader.text() for _ in range(3)]
            (count,) = reader.take("H")
            headers = tuple((reader.text(), reader.text()) for _ in range(count))
            return Pick(*numbers[:8], *texts, hashes, *wishes, *hints, headers)
        case 0x03:
            return First(*reader.take("QIH"))
        case 0x04:
            return Done(*reader.take("QBBHIIIII"), reader.text(), *reader.take("BIBB"))
        case 0x05:
            return Open(*reader.take("QIIB"), reader.text(), reader.text(), reader.text())
    raise AssertionError(f"a frame that filters do not send: {kind:#x}")


def _text(value: str) -> bytes:
    return struct.pack("<H", len(value.encode())) + value.encode()


def _frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<IB", 1 + len(payload), kind) + payload


def endpoints(
    stream: int,
    addresses: str,
    *,
    uncached: int = 0,
    context: int = 0,
    model: str = "",
    queued_us: int = 0,
    ttft_deadline_ms: int = 0,
    reason: str = "",
) -> bytes:
    numbers = struct.pack("<QII", stream, uncached, context)
    times = struct.pack("<II", queued_us, ttft_deadline_ms)
    return _frame(0x82, numbers + _text(addresses) + _text(model) + times + _text(reason))


def reject(
    stream: int,
    status: int,
    retry_after_ms: int,
    kind: str,
    code: str,
    message: str,
    reason: str,
    *,
    retry: int = 0,
) -> bytes:
    numbers = struct.pack("<QHI", stream, status, retry_after_ms)
    texts = b"".join(map(_text, (kind, code, message, reason)))
    return _frame(0x83, numbers + texts + bytes([retry]))


def queued(stream: int, keepalive_ms: int) -> bytes:
    return _frame(0x85, struct.pack("<QI", stream, keepalive_ms))


Script = Callable[[Pick], bytes | None]


@dataclass
class FakePicker:
    """Answers a PICK with what `script` returns (None: later, by hand); keeps what it got."""

    path: Path
    script: Script
    frames: list[Frame] = field(default_factory=list)
    connections: int = 0
    _writer: asyncio.StreamWriter | None = None
    _server: asyncio.Server | None = None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _quiet: bool = False

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=8 << 20)

    async def stop(self) -> None:
        """As a killed process: the socket file stays, every connection breaks."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    def hang(self) -> None:
        """As a stopped process: connections stay open, nothing is answered."""
        self._quiet = True

    def resume(self) -> None:
        self._quiet = False

    @property
    def is_serving(self) -> bool:
        return self._server is not None and not self._quiet

    def unfinished(self) -> set[int]:
        """Streams that asked or were announced, and have not ended."""
        begun = {frame.stream for frame in self.frames if isinstance(frame, Pick | Open)}
        return begun - {frame.stream for frame in self.of(Done)}

    def send(self, frame: bytes) -> None:
        assert self._writer is not None, "no filter is connected"
        self._writer.write(frame)

    def of(self, kind: type[F]) -> list[F]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def wait(self, kind: type[F], count: int = 1) -> F:
        """The frame number `count` of a kind, once it has arrived."""
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writer = writer
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(self._beat(writer))
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    size, kind = struct.unpack("<IB", await reader.readexactly(5))
                    frame = read_frame(kind, await reader.readexactly(size - 1))
                    await self._take(frame, writer)
            beat.cancel()
        writer.close()

    async def _take(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        while self._quiet:
            await asyncio.sleep(0.005)
        async with self._news:
            self.frames.append(frame)
            self._news.notify_all()
        if isinstance(frame, Hello):
            writer.write(_frame(0x81, struct.pack("<IHHQI", MAGIC, 1, 1, 7, HEARTBEAT_MS)))
        elif isinstance(frame, Pick):
            answer = self.script(frame)
            if answer is not None:
                writer.write(answer)

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            await asyncio.sleep(HEARTBEAT_MS / 1000)
            if not self._quiet:
                writer.write(_frame(0x84, b""))
