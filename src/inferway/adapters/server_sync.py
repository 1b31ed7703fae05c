"""One server's adapters, kept as the configuration says.

Model: a turn waits for the server's health, lists its models, makes the planned calls and lists
again; the second list is the truth, so it does not matter who loaded an adapter or how a call was
answered. Turns come on every change and every few seconds, which is also how a restarted server is
found to have lost its adapters. A call that failed is repeated after a pause that doubles; a server
that is not healthy is asked again ever less often. Nothing one server does delays another.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from inferway.adapters.back_off import BackOff
from inferway.adapters.model_server import ServerError
from inferway.adapters.plan import Load, plan
from inferway.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from inferway.adapters.config import SyncConfig
    from inferway.adapters.model_server import ModelServerApi
    from inferway.adapters.plan import Call, Plan, Present

log = get_logger("adapters")


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How often, and how patient. The first three are the upstream side-car's."""

    reconcile_every_s: float = 5.0
    health_timeout_s: float = 300.0  # until a server that is not healthy is reported
    health_interval_s: float = 2.0
    health_interval_max_s: float = 30.0  # of a server that was reported
    retry_first_s: float = 5.0
    retry_longest_s: float = 300.0


class Counts(Protocol):
    """Who counts what happened."""

    def called(self, call: Call, result: str) -> None:
        """`result` is ok, refused (the server said no) or failed (it did not answer)."""

    def unhealthy(self) -> None: ...


@dataclass(eq=False)
class ServerSync:
    """`wake` asks for a turn at once, `stop` ends `run` after the present one."""

    url: str
    api: ModelServerApi
    settings: SyncSettings
    counts: Counts
    clock: Callable[[], float]
    stop: asyncio.Event
    dry_run: Callable[[str, Call], None] | None = None
    config: SyncConfig | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    satisfied: Mapping[str, bool] = field(default_factory=dict)
    _healthy: bool = False
    _seen_for: SyncConfig | None = None
    _warned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._back_off = BackOff(self.settings.retry_first_s, self.settings.retry_longest_s)

    @property
    def in_sync(self) -> bool:
        """Whether the last list of the server was as wanted."""
        is_known = self.config is not None and self.config is self._seen_for
        return is_known and self._healthy and all(self.satisfied.values())

    async def run(self) -> None:
        """Turn after turn until `stop`."""
        while not self.stop.is_set():
            if self.config is not None and await self._until_healthy():
                await self.turn()
            await self._pause(self.settings.reconcile_every_s)

    async def once(self) -> bool:
        """One turn of a server that has `health_timeout_s` to become healthy; whether all is as
        wanted now. With `dry_run`: whether it was.
        """
        deadline_s = self.clock() + self.settings.health_timeout_s
        while not await self.api.healthy():
            if self.clock() >= deadline_s or self.stop.is_set():
                self._report_unhealthy()
                return False
            await self._pause(self.settings.health_interval_s)
        self._healthy = True
        await self.turn()
        return self.in_sync

    async def turn(self) -> None:
        """Lists, calls, lists again. Never raises: what failed is logged, counted and repeated."""
        config = self.config
        if config is None:
            return
        try:
            present = await self.api.present()
            wanted = self._planned(config, present)
            calls = self._due(wanted.calls)
            if self.dry_run is not None:
                for call in wanted.calls:
                    self.dry_run(self.url, call)
            elif calls:
                for call in calls:
                    await self._apply(call)
                wanted = plan(config, await self.api.present())
                self._settle(calls, wanted.calls)
        except ServerError as error:
            log.warning("server_does_not_answer", server=self.url, error=str(error))
            self._healthy = False
            self.satisfied = dict.fromkeys(self.satisfied, False)
            return
        self.satisfied, self._seen_for = wanted.satisfied, config

    def _planned(self, config: SyncConfig, present: Present) -> Plan:
        wanted = plan(config, present)
        if wanted.warnings != self._warned:
            self._warned = wanted.warnings
            for warning in wanted.warnings:
                log.warning("adapter_left_alone", server=self.url, reason=warning)
        self._back_off.keep(wanted.calls)
        return wanted

    def _due(self, calls: tuple[Call, ...]) -> list[Call]:
        now_s = self.clock()
        return [call for call in calls if self._back_off.is_due(call, now_s)]

    async def _apply(self, call: Call) -> None:
        result, said = "ok", ""
        try:
            await self.api.apply(call)
        except ServerError as error:
            result, said = ("refused" if error.refused else "failed"), str(error)
        self.counts.called(call, result)
        what = "adapter_load" if isinstance(call, Load) else "adapter_unload"
        report = log.info if result == "ok" else log.warning
        report(what, server=self.url, adapter=call.adapter, result=result, error=said)

    def _settle(self, made: list[Call], still_wanted: tuple[Call, ...]) -> None:
        """Calls after which the server is not as wanted failed, whatever it answered."""
        self._back_off.keep(still_wanted)
        for call in made:
            if call in still_wanted:
                pause_s = self._back_off.failed(call, self.clock())
                log.error("adapter_not_as_wanted", server=self.url, call=str(call), retry_s=pause_s)

    async def _until_healthy(self) -> bool:
        """False when stopped. Reports a server once that stays away too long."""
        if self._healthy:
            return True
        interval_s = self.settings.health_interval_s
        deadline_s = self.clock() + self.settings.health_timeout_s
        reported = False
        while not self.stop.is_set():
            if await self.api.healthy():
                log.info("server_healthy", server=self.url)
                self._healthy = True
                return True
            if self.clock() >= deadline_s:
                if not reported:
                    self._report_unhealthy()
                reported = True
                interval_s = min(interval_s * 2, self.settings.health_interval_max_s)
            await self._pause(interval_s)
        return False

    def _report_unhealthy(self) -> None:
        self.counts.unhealthy()
        after_s = self.settings.health_timeout_s
        log.error("server_not_healthy", server=self.url, after_s=after_s, hint="GET /health")

    async def _pause(self, length_s: float) -> None:
        """Until then, or until woken."""
        try:
            async with asyncio.timeout(length_s):
                await self.wake.wait()
        except TimeoutError:
            return
        self.wake.clear()
