"""A picker for tests: answers every pick as told, and remembers the picks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from inferway import _native

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Answer = Callable[[_native.Pick], str]
"""The endpoints for a pick, best first, with commas."""


@contextlib.asynccontextmanager
async def picker(path: Path, answer: Answer) -> AsyncIterator[list[_native.Pick]]:
    """Serves on the pick socket; yields the picks as they come."""
    picks: list[_native.Pick] = []
    greeted = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = _native.FrameReader()
        with contextlib.closing(writer):
            while data := await reader.read(65536):
                for frame in frames.feed(data):
                    if isinstance(frame, _native.Hello):
                        # A heartbeat promised so rarely that none is needed in a test.
                        writer.write(_native.encode_welcome(1, 60_000))
                        greeted.set()
                    elif isinstance(frame, _native.Pick):
                        picks.append(frame)
                        endpoints = answer(frame)
                        writer.write(_native.encode_endpoints(frame.stream, 0, 0, endpoints, ""))

    server = await asyncio.start_unix_server(serve, path)
    try:
        async with asyncio.timeout(10):
            await greeted.wait()
        yield picks
    finally:
        server.close()
