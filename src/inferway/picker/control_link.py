"""The picker's end of its link with control.

Problem: control restarts, hangs and makes mistakes, and the picker must go on deciding through
all of it. Model: a client of control's unix socket that exchanges JSON lines: `PickerConfig`
comes, `PickerStatus` goes, at each change and at least every `status_interval_s`; questions about
decisions come too, and are answered one at a time. It reconnects with back-off. Invariants: a
configuration that cannot be used changes nothing but `error` in the status; a control that does not
read, or asks and asks, cannot make the picker wait or grow (statuses and questions are skipped
while much is unsent). It does not build runtimes: it hands the configuration over.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from inferway.observability.logging import get_logger
from inferway.picker.config import PickerConfig
from inferway.picker.explain_messages import QUERY_BEGINS, ExplainAnswer, ExplainQuery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from inferway.picker.config import PickerStatus

LINE_BYTES_MAX: Final = 64 * 1024 * 1024
PROBLEMS_SHOWN_MAX: Final = 5
QUESTIONS_MAX: Final = 16  # waiting for their answer
ANSWERS_UNSENT_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LinkTimes:
    """How long the link waits, in seconds."""

    status_interval_s: float = 1.0  # a status goes out at least this often
    look_interval_s: float = 0.1  # how soon a change is noticed
    retry_min_s: float = 0.05
    retry_max_s: float = 2.0


class ConfigRefusedError(ValueError):
    """The configuration is legal JSON but cannot be put into force; the message says why."""


class ControlLink:
    """Follows the control process.

    `apply` puts a configuration into force or raises ConfigRefusedError, `status` builds the
    current status with the given error. `fingerprint` is equal as long as nothing changed that
    control should hear of at once. `explain` looks decisions up and gives way to others meanwhile.
    """

    def __init__(
        self,
        path: Path,
        *,
        apply: Callable[[PickerConfig], None],
        status: Callable[[str], Awaitable[PickerStatus]],
        fingerprint: Callable[[], object],
        explain: Callable[[ExplainQuery], Awaitable[ExplainAnswer]],
        times: LinkTimes | None = None,
    ) -> None:
        self._path = path
        self._apply = apply
        self._status = status
        self._fingerprint = fingerprint
        self._explain = explain
        self._times = LinkTimes() if times is None else times
        self._error = ""
        self._changed = asyncio.Event()
        self._questions: asyncio.Queue[ExplainQuery] = asyncio.Queue(QUESTIONS_MAX)
        self._log = get_logger("control-link")

    async def run(self) -> None:
        """Connects, converses, reconnects, until cancelled."""
        delay_s = self._times.retry_min_s
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(
                    self._path, limit=LINE_BYTES_MAX
                )
            except OSError:
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, self._times.retry_max_s)
                continue
            self._log.info("control_connected")
            if await self._converse(reader, writer):
                delay_s = self._times.retry_min_s
            self._log.warning("control_disconnected")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, self._times.retry_max_s)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One connection, to its end. True when control said anything."""
        heard = False
        self._questions = asyncio.Queue(QUESTIONS_MAX)
        try:
            async with asyncio.TaskGroup() as tasks:
                owned = [
                    tasks.create_task(self._report(writer)),
                    tasks.create_task(self._answer(writer)),
                ]
                try:
                    while line := await reader.readline():
                        heard = True
                        self.receive(line)
                except (OSError, ValueError) as problem:  # ValueError: a line beyond the limit
                    self._log.warning("control_link_broken", problem=str(problem))
                for task in owned:
                    task.cancel()
        finally:
            writer.transport.abort()
        return heard

    def receive(self, line: bytes) -> None:
        """Takes one line of control: a configuration into force, or into the status as an error; a
        question into the queue.
        """
        if line.startswith(QUERY_BEGINS):
            self._asked(line)
            return
        try:
            self._apply(PickerConfig.model_validate_json(line))
            self._error = ""
        except ValidationError as problem:
            self._error = _shown(problem)
        except ConfigRefusedError as problem:
            self._error = str(problem)
        if self._error:
            self._log.error("config_refused", problem=self._error)
        self._changed.set()

    def _asked(self, line: bytes) -> None:
        try:
            self._questions.put_nowait(ExplainQuery.model_validate_json(line))
        except (ValidationError, asyncio.QueueFull) as problem:
            self._log.warning("question_ignored", problem=type(problem).__name__)

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        while True:
            query = await self._questions.get()
            if writer.transport.get_write_buffer_size() > ANSWERS_UNSENT_BYTES_MAX:
                self._log.warning("question_ignored", problem="control does not read")
                continue
            try:
                answer = await self._explain(query)
            except Exception as problem:  # noqa: BLE001 - a question's boundary: plugins are users' code
                self._log.exception("question_failed")
                text = f"the picker failed over it: {type(problem).__name__}"
                answer = ExplainAnswer(answer_to=query.question, error=text)
            writer.write(answer.model_dump_json().encode() + b"\n")

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        seen = self._fingerprint()
        looks_max = max(1, round(self._times.status_interval_s / self._times.look_interval_s))
        while True:
            self._changed.clear()
            if writer.transport.get_write_buffer_size() == 0:
                status = await self._status(self._error)
                writer.write(status.model_dump_json().encode() + b"\n")
            for _ in range(looks_max):
                try:
                    async with asyncio.timeout(self._times.look_interval_s):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                now = self._fingerprint()
                if now != seen or self._changed.is_set():
                    seen = now
                    break


def _shown(problem: ValidationError) -> str:
    errors = problem.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(map(str, error['loc'])) or 'config'}: {error['msg']}"
        for error in errors[:PROBLEMS_SHOWN_MAX]
    ]
    if len(errors) > PROBLEMS_SHOWN_MAX:
        shown.append(f"and {len(errors) - PROBLEMS_SHOWN_MAX} more")
    return "; ".join(shown)
