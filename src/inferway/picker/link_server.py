"""Control's end of its link with the picker.

Problem: control must hand every new configuration to the picker, also to one that starts later or
comes back, and hear how endpoints are. Model: a unix socket server that remembers the newest
configuration, sends it to whoever connects and at every `publish`, and keeps the newest status.
Invariants: publishing never waits; a picker that does not read is cut off once its backlog is
larger than `backlog_bytes_max`, and gets the newest configuration when it reconnects. It does not
start or watch the picker process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from inferway.observability.logging import get_logger
from inferway.picker.config import PickerStatus
from inferway.picker.unix_socket import listening_unix_socket, remove_unix_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inferway.picker.config import PickerConfig

LINE_BYTES_MAX: Final = 64 * 1024 * 1024  # one message: 100,000 endpoints are about 15 MiB
BACKLOG_BYTES_MAX: Final = 128 * 1024 * 1024


class PickerLink:
    """Publishes configurations, collects statuses.

    `status` is None until a picker has reported once.
    """

    def __init__(self, *, on_status: Callable[[PickerStatus], None] | None = None) -> None:
        self.status: PickerStatus | None = None
        self._on_status = on_status
        self._config = b""
        self._writers: set[asyncio.StreamWriter] = set()
        self._log = get_logger("picker-link")

    @property
    def connected(self) -> bool:
        return bool(self._writers)

    def publish(self, config: PickerConfig) -> None:
        """Sends the configuration to every connected picker and keeps it for those to come."""
        self._config = config.model_dump_json().encode() + b"\n"
        for writer in list(self._writers):
            self._send(writer)

    async def serve(self, path: Path) -> None:
        """Listens until cancelled. OSError when the path cannot be bound."""
        listener = listening_unix_socket(path)
        server = await asyncio.start_unix_server(
            self._converse, sock=listener, limit=LINE_BYTES_MAX
        )
        try:
            await server.serve_forever()
        finally:
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            remove_unix_socket(path)

    def _send(self, writer: asyncio.StreamWriter) -> None:
        if writer.transport.get_write_buffer_size() > BACKLOG_BYTES_MAX:
            self._log.warning("picker_does_not_read", backlog_bytes_max=BACKLOG_BYTES_MAX)
            writer.transport.abort()
            return
        writer.write(self._config)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._log.info("picker_connected")
        try:
            if self._config:
                self._send(writer)
            while line := await reader.readline():
                self._receive(line)
        except (OSError, ValueError) as problem:  # ValueError: a line beyond the limit
            self._log.warning("picker_link_broken", problem=str(problem))
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            self._log.info("picker_disconnected")

    def _receive(self, line: bytes) -> None:
        try:
            status = PickerStatus.model_validate_json(line)
        except ValidationError as problem:
            self._log.warning("picker_status_not_understood", problems=problem.error_count())
            return
        self.status = status
        if self._on_status is not None:
            self._on_status(status)
