"""Parts that must stay up: start, watch, restart with back-off, give up with a reason.

A part that ends by itself is restarted after a pause that doubles from 0.2 s to 10 s and starts
over once the part has run for 30 s. A part that dies five times in a row within a second of its
start ends the whole program: a gateway that never comes up should say so instead of trying for
ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from inferway.envoy.launcher import with_parent
from inferway.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger("supervisor")

PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 10.0
HEALTHY_AFTER_S = 30.0
EARLY_S = 1.0
EARLY_DEATHS_MAX = 5
STOP_TIMEOUT_S = 5.0


class PartFailedError(Exception):
    """A part ended again and again right after its start."""


@dataclass
class BackOff:
    """The restart policy, pure: from the length of each run to the pause after it."""

    pause_s: float = PAUSE_MIN_S
    early_deaths: int = 0

    def after(self, ran_s: float) -> float | None:
        """Seconds to wait before the next start; None: give up."""
        if ran_s >= HEALTHY_AFTER_S:
            self.pause_s = PAUSE_MIN_S
        self.early_deaths = self.early_deaths + 1 if ran_s < EARLY_S else 0
        if self.early_deaths >= EARLY_DEATHS_MAX:
            return None
        pause_s, self.pause_s = self.pause_s, min(self.pause_s * 2, PAUSE_MAX_S)
        return pause_s


class Part(Protocol):
    """Something that runs as a process of its own."""

    name: str
    restarts: int

    async def run_once(self) -> int:
        """Starts it and waits until it ends; the exit code."""
        ...


async def keep_up(
    part: Part, stopping: asyncio.Event, *, on_restart: Callable[[str], None] = lambda _name: None
) -> None:
    """Runs the part again and again until `stopping`. PartFailedError when it does not come up.
    `on_restart` hears the part's name whenever it ended by itself.
    """
    loop = asyncio.get_running_loop()
    back_off = BackOff()
    while not stopping.is_set():
        started_s = loop.time()
        code = await part.run_once()
        if stopping.is_set():
            return
        pause_s = back_off.after(loop.time() - started_s)
        if pause_s is None:
            raise PartFailedError(
                f"{part.name} ended {EARLY_DEATHS_MAX} times right after its start, "
                f"the last time with exit code {code}"
            )
        part.restarts += 1
        on_restart(part.name)
        log.error("part_ended", part=part.name, code=code, restart_in_s=pause_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await stopping.wait()


class Command:
    """A part that is a plain command."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.restarts = 0
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *with_parent(self._command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,  # parts talk on stderr; stdout is for data
            start_new_session=True,  # Ctrl-C is the supervisor's to handle, in order
        )
        try:
            return await self._process.wait()
        finally:
            if self._process.returncode is None:  # cancelled: nobody else will end it
                self._process.kill()

    async def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, then SIGKILL after `timeout_s`. Safe before the start and twice."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            log.warning("part_killed", part=self.name, after_s=timeout_s)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    """The exceptions of a group, however deep."""
    found: list[Exception] = []
    for one in group.exceptions:
        found += leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found
