"""Control's end of its link with the picker.

Problem: control must hand every new configuration to the picker, also to one that starts later or
comes back, and hear how endpoints are. Model: a unix socket server that remembers the newest
configuration, sends it to whoever connects and at every `publish`, keeps the newest status, and
passes on questions about decisions. Invariants: publishing never waits; a picker that does not read
is cut off once its backlog is larger than `backlog_bytes_max`, and gets the newest configuration
when it reconnects; a question ends with an answer, in time, or with the loss of the picker that was
asked. It does not start or watch the picker process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from inferway.observability.logging import get_logger
from inferway.picker.config import PickerStatus
from inferway.picker.explain_messages import ANSWER_BEGINS, ExplainAnswer
from inferway.picker.unix_socket import listening_unix_socket, remove_unix_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inferway.picker.config import PickerConfig
    from inferway.picker.explain_messages import ExplainQuery

LINE_BYTES_MAX: Final = 64 * 1024 * 1024  # one message: 100,000 endpoints are about 15 MiB
BACKLOG_BYTES_MAX: Final = 128 * 1024 * 1024
QUESTIONS_MAX: Final = 8  # under way at once; below what a picker queues
ANSWER_TIMEOUT_S: Final = 5.0


class NoAnswerError(Exception):
    """The picker was asked something and did not answer. The text is for people."""


class PickerLink:
    """Publishes configurations, collects statuses.

    `status` is None until a picker has reported once.
    """

    def __init__(self, *, on_status: Callable[[PickerStatus], None] | None = None) -> None:
        self.status: PickerStatus | None = None
        self._on_status = on_status
        self._config = b""
        self._writers: dict[asyncio.StreamWriter, None] = {}  # oldest connection first
        self._questions: dict[int, tuple[asyncio.StreamWriter, asyncio.Future[ExplainAnswer]]] = {}
        self._last_question = 0
        self._log = get_logger("picker-link")

    @property
    def connected(self) -> bool:
        return bool(self._writers)

    def publish(self, config: PickerConfig) -> None:
        """Sends the configuration to every connected picker and keeps it for those to come."""
        self._config = config.model_dump_json().encode() + b"\n"
        for writer in list(self._writers):
            self._send(writer)

    async def explain(self, query: ExplainQuery) -> ExplainAnswer:
        """Asks the picker that connected last. NoAnswerError."""
        if not self._writers:
            raise NoAnswerError("the picker is not connected; it is restarted by itself")
        if len(self._questions) >= QUESTIONS_MAX:
            raise NoAnswerError(f"{QUESTIONS_MAX} questions are already being answered; ask again")
        writer = next(reversed(self._writers))
        self._last_question = number = self._last_question + 1
        future: asyncio.Future[ExplainAnswer] = asyncio.get_running_loop().create_future()
        self._questions[number] = writer, future
        try:
            writer.write(query.model_copy(update={"question": number}).model_dump_json().encode())
            writer.write(b"\n")
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await future
        except TimeoutError:
            raise NoAnswerError(f"the picker said nothing for {ANSWER_TIMEOUT_S:g} s") from None
        finally:
            del self._questions[number]

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
        self._writers[writer] = None
        self._log.info("picker_connected")
        try:
            if self._config:
                self._send(writer)
            while line := await reader.readline():
                self._receive(line)
        except (OSError, ValueError) as problem:  # ValueError: a line beyond the limit
            self._log.warning("picker_link_broken", problem=str(problem))
        finally:
            del self._writers[writer]
            self._lost(writer)
            writer.transport.abort()
            self._log.info("picker_disconnected")

    def _lost(self, writer: asyncio.StreamWriter) -> None:
        for asked, future in self._questions.values():
            if asked is writer and not future.done():
                future.set_exception(NoAnswerError("the picker went away before it answered"))

    def _answered(self, line: bytes) -> None:
        try:
            answer = ExplainAnswer.model_validate_json(line)
        except ValidationError as problem:
            self._log.warning("picker_answer_not_understood", problems=problem.error_count())
            return
        question = self._questions.get(answer.answer_to)
        if question is not None and not question[1].done():
            question[1].set_result(answer)

    def _receive(self, line: bytes) -> None:
        if line.startswith(ANSWER_BEGINS):
            self._answered(line)
            return
        try:
            status = PickerStatus.model_validate_json(line)
        except ValidationError as problem:
            self._log.warning("picker_status_not_understood", problems=problem.error_count())
            return
        self.status = status
        if self._on_status is not None:
            self._on_status(status)
