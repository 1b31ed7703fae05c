"""A picker for tests: answers every pick as told, and remembers the picks.

Nothing tells when the filter has read the picker's greeting, and a pool that fails open goes on
without a choice until then. So pools that a test has picked for fail closed, and hold for long:
`FAIL_CLOSE` and `PATIENT`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from inferway import _native
from inferway.envoy.settings import EnvoySettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FAIL_CLOSE = "inferway.dev/failure-mode: FailClose"
PATIENT = EnvoySettings(hold_ms=60_000)

Answer = Callable[[_native.Pick], str]
"""The endpoints for a pick, best first, with commas."""


@contextlib.asynccontextmanager
async def picker(
    path: Path, answer: Answer, *, faults: list[_native.Fault] | None = None
) -> AsyncIterator[list[_native.Pick]]:
    """Serves on the pick socket; yields the picks as they come. `faults` gets failed attempts."""
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
                    elif isinstance(frame, _native.Fault) and faults is not None:
                        faults.append(frame)
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
