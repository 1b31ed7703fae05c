"""One Envoy process: start, readiness, draining, end.

Problem: Envoy is a foreign program that must come up with the right files, be heard when it
complains, and never outlive us. Model: `EnvoyProcess` is one life of it; whoever supervises makes a
new one for the next. Its log lines arrive through a callback in the event loop. Invariants: the
child is ended by the kernel when its parent dies; draining and stopping are bounded. It restarts
nothing, and it does not know which ports are free (ports.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from inferway.envoy.admin import AdminUnavailableError, EnvoyAdmin
from inferway.envoy.binary import link_filter
from inferway.envoy.bootstrap import bootstrap
from inferway.envoy.launcher import with_parent
from inferway.envoy.logs import FORMAT, EnvoyLine, read_line
from inferway.observability.logging import LogLevel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from inferway.envoy.bootstrap import RunDirectory
    from inferway.envoy.settings import EnvoySettings

POLL_S = 0.05
STOP_TIMEOUT_S = 5.0
COMPLAINTS_MAX = 5
LINE_BYTES_MAX = 64 * 1024


class EnvoyFailedError(RuntimeError):
    """Envoy did not come up. The text holds what it complained about."""


@dataclass(frozen=True, slots=True)
class EnvoyProgram:
    """What to start and with what."""

    envoy: Path  # find_envoy()
    filter_library: Path  # find_filter()
    run: RunDirectory
    settings: EnvoySettings
    concurrency: int = 1  # worker threads
    log_level: LogLevel = LogLevel.WARNING

    def arguments(self, *, validate: bool = False) -> list[str]:
        """The command line, the program first."""
        return [
            str(self.envoy),
            *("-c", str(self.run.bootstrap_file)),
            *("--concurrency", str(self.concurrency)),
            *("--log-level", self.log_level.value),
            *("--log-format", FORMAT),
            # No hand-over between processes, hence no shared memory and no id to be unique.
            "--disable-hot-restart",
            # One field has a newer name that the generated API does not know yet (filters.py).
            "--skip-deprecated-logs",
            *("--drain-time-s", str(self.settings.listener_drain_s)),
            *("--drain-strategy", "immediate"),
            *(("--mode", "validate") if validate else ()),
        ]

    def environment(self) -> dict[str, str]:
        """Only what Envoy needs, so that nothing of ours leaks into it."""
        return {
            "PATH": os.defpath,
            "ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(self.run.modules),
        }

    def write_files(self) -> None:
        """The run directory, the link to the filter and the start-up configuration."""
        self.run.prepare()
        link_filter(self.filter_library, self.run.modules)
        self.run.bootstrap_file.write_text(bootstrap(self.run, self.settings))


class EnvoyProcess:
    """One life of an Envoy. `on_line` hears what it logs."""

    def __init__(
        self, program: EnvoyProgram, *, on_line: Callable[[EnvoyLine], None] = lambda _line: None
    ) -> None:
        self._program = program
        self._on_line = on_line
        self._complaints: deque[str] = deque(maxlen=COMPLAINTS_MAX)
        self._transport: asyncio.SubprocessTransport | None = None
        self._ended: asyncio.Future[int] | None = None
        self.admin = EnvoyAdmin(program.run.admin_socket)

    @property
    def pid(self) -> int | None:
        """None before the start and after the end."""
        if self._transport is None or self._ended is None or self._ended.done():
            return None
        return self._transport.get_pid()

    @property
    def complaint(self) -> str:
        """The last errors that it logged, one per line; empty when there were none."""
        return "\n".join(self._complaints)

    async def start(self) -> None:
        """Starts the program. Raises OSError or EnvoyFailedError when that is impossible."""
        if self._transport is not None:
            raise EnvoyFailedError("an Envoy process is started only once")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        self._program.write_files()
        self._transport, _protocol = await loop.subprocess_exec(
            lambda: _Output(self._hear, ended),
            *with_parent(self._program.arguments()),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the supervisor's to handle: it drains first
            stdout=asyncio.subprocess.DEVNULL,
            env=self._program.environment(),
        )
        self._ended = ended

    async def wait(self) -> int:
        """Waits for its end; the exit code, negative for a signal."""
        if self._ended is None:
            raise EnvoyFailedError("Envoy was not started")
        return await asyncio.shield(self._ended)

    async def ready(self, *, timeout_s: float) -> None:
        """Waits until it serves. Raises EnvoyFailedError when it ends or takes longer."""
        try:
            async with asyncio.timeout(timeout_s):
                await _until(self._is_ready)
        except TimeoutError:
            reason = self.complaint or "no complaint in its log"
            raise EnvoyFailedError(f"Envoy not ready after {timeout_s:g} s: {reason}") from None

    async def drain(self, *, timeout_s: float) -> bool:
        """Takes no new connections and waits for running requests; False when some are left."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.admin.start_draining()
                await _until(self._is_idle)
        except TimeoutError:
            return False
        except AdminUnavailableError:
            return self.pid is None
        return True

    async def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """Ends it, by force after `timeout_s`. The exit code, or None when it never ran."""
        if self._transport is None or self._ended is None:
            return None
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await self.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.wait()
        return self._ended.result()

    async def _is_ready(self) -> bool:
        if self._ended is not None and self._ended.done():
            reason = self.complaint or "no complaint in its log"
            raise EnvoyFailedError(f"Envoy ended with code {self._ended.result()}: {reason}")
        try:
            return await self.admin.ready()
        except AdminUnavailableError:
            return False

    async def _is_idle(self) -> bool:
        return await self.admin.active_requests() == 0

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None and self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.send_signal(number)

    def _hear(self, text: str) -> None:
        line = read_line(text)
        if line is None:
            return
        if line.level is LogLevel.ERROR or line.logger == "output":
            self._complaints.append(line.message)
        self._on_line(line)


class _Output(asyncio.SubprocessProtocol):
    """Cuts the child's standard error into lines, and notes its end."""

    def __init__(self, hear: Callable[[str], None], ended: asyncio.Future[int]) -> None:
        self._hear = hear
        self._ended = ended
        self._rest = b""
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            lines.append(rest)
            rest = b""
        self._rest = rest
        for line in lines:
            self._hear(line.decode(errors="replace"))

    def connection_lost(self, exc: Exception | None) -> None:
        # Called once the process has ended and its pipe is read to the end.
        self._hear(self._rest.decode(errors="replace"))
        code = self._transport.get_returncode() if self._transport else None
        if self._transport is not None:
            self._transport.close()
        if not self._ended.done():
            self._ended.set_result(-1 if code is None else code)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again: Envoy's admin interface has no way to tell us."""
    while True:
        if await condition():
            return
        await asyncio.sleep(POLL_S)


async def validate(program: EnvoyProgram, *, timeout_s: float = 30.0) -> str | None:
    """Lets Envoy check the start-up configuration. None when it is good, else its complaint."""
    program.write_files()
    process = await asyncio.create_subprocess_exec(
        *program.arguments(validate=True),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=program.environment(),
    )
    try:
        async with asyncio.timeout(timeout_s):
            _out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"no verdict after {timeout_s:g} s"
    if process.returncode == 0:
        return None
    lines = (read_line(text) for text in errors.decode(errors="replace").splitlines())
    return "\n".join(line.message for line in lines if line is not None)
