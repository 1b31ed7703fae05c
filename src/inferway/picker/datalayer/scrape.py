"""Reads `/metrics` and `/v1/models` of every endpoint, at a pace that decisions do not feel.

Problem: readings are guards and corrections, so they may cost little and may fail. Model: one loop
takes due addresses from a `Schedule` and lets a bounded number of scrapes run at once; what a good
scrape says goes to a `Sink`, and the CPU it took goes to the `Pace`. Invariants: a failed scrape
changes no reading (ages grow) and removes no endpoint, it only counts towards `reachable`; a server
that refuses `/metrics` but answers is reachable; pages are bounded. It decides nothing.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiohttp

from inferway.picker.datalayer.engines import EngineMetrics, Page, Reading, read
from inferway.picker.datalayer.models import Served, served
from inferway.picker.datalayer.pacing import Pace, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferway.picker.config import ScrapeConfig

_PAGE_BYTES_MAX = 8 * 1024 * 1024
_MODELS_EVERY_S = (5.0, 10.0)  # uniformly between, so that servers are not asked in step
_MODELS_RETRY_S = 1.0
_FAILURES_MAX = 3  # consecutive, until an endpoint counts as unreachable


@dataclass(frozen=True, slots=True)
class Target:
    address: str
    metrics_path: str
    metrics: EngineMetrics


class Sink(Protocol):
    """Who is told. Calls come from the event loop and must be quick."""

    def own_requests(self, address: str) -> float:
        """Requests we have in flight there now."""

    def scraped(self, address: str, reading: Reading, own_requests: float, now_s: float) -> None:
        """A good page, and the most requests of ours in flight while it was read."""

    def models(self, address: str, answer: Served) -> None: ...

    def reachable(self, address: str, reachable: bool) -> None:
        """Called when it changes, and the first time it is known."""


class _FetchError(Exception):
    """This endpoint did not give what was asked for."""


@dataclass(slots=True)
class _Health:
    failures: int = 0
    reachable: bool | None = None
    models_due_s: float = float("-inf")


class Scraper:
    """`parse` is `_native.parse_metrics`, `clock` monotonic seconds, `cpu_clock` the process's CPU
    seconds, `random` uniform in [0, 1)."""

    def __init__(
        self,
        config: ScrapeConfig,
        session: aiohttp.ClientSession,
        sink: Sink,
        *,
        parse: Callable[[bytes, list[str]], Page],
        clock: Callable[[], float],
        cpu_clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._config = config
        self._session = session
        self._sink = sink
        self._parse = parse
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._random = random
        self._pace = Pace(config)
        self._schedule = Schedule(random)
        self._targets: dict[str, Target] = {}
        self._health: dict[str, _Health] = {}
        self._names: dict[str, list[str]] = {}
        self._timeout = aiohttp.ClientTimeout(total=config.timeout_s)
        self._slots = asyncio.Semaphore(config.concurrency_max)
        self._wake = asyncio.Event()

    def set_targets(self, targets: Sequence[Target]) -> None:
        """The endpoints to read from now on. New ones are read at once."""
        self._targets = {target.address: target for target in targets}
        self._health = {a: self._health.get(a, _Health()) for a in self._targets}
        self._names = {a: target.metrics.names() for a, target in self._targets.items()}
        self._schedule.set_addresses(self._targets, self._clock())
        self._wake.set()

    def picked(self, now_s: float) -> None:
        """Call once per batch of picks: readings are wanted fresh again."""
        if self._pace.picked(now_s):
            self._schedule.hasten(now_s, self._config.interval_min_s)
            self._wake.set()

    def answered(self, address: str) -> None:
        """A real request was answered by the endpoint: it is reachable, whatever scrapes say."""
        if address in self._health:
            self._succeeded(address)

    @property
    def interval_s(self) -> float:
        """Of each endpoint, at present."""
        return self._pace.interval_s(len(self._schedule), self._clock())

    async def run(self) -> None:
        """Scrapes until cancelled."""
        async with asyncio.TaskGroup() as scrapes:
            while True:
                await self._slots.acquire()
                address = await self._next_due()
                scrapes.create_task(self._turn(address))

    async def scrape(self, address: str) -> None:
        """One turn of one endpoint: its metrics, and its models when they are due."""
        target = self._targets[address]
        health = self._health[address]
        answered = await self._read_metrics(target)
        if self._clock() >= health.models_due_s:
            answered = await self._read_models(target, health) or answered
        if address not in self._health:
            return  # it was removed meanwhile
        if answered:
            self._succeeded(address)
        else:
            self._failed(address)

    async def _next_due(self) -> str:
        while True:
            now_s = self._clock()
            address = self._schedule.take_due(now_s)
            if address is not None:
                return address
            due_s = self._schedule.next_due_s()
            self._wake.clear()
            try:
                async with asyncio.timeout(None if due_s is None else due_s - now_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _turn(self, address: str) -> None:
        try:
            if address in self._targets:
                await self.scrape(address)
        finally:
            self._slots.release()
        self._schedule.finished(address, self._clock(), self.interval_s)
        self._wake.set()  # its next turn may come before the one that is waited for

    async def _read_metrics(self, target: Target) -> bool:
        """Whether the server answered at all."""
        own_before = self._sink.own_requests(target.address)
        cpu_before_s = self._cpu_clock()
        try:
            status, page = await self._get(target.address, target.metrics_path)
        except _FetchError:
            return False
        if status == 200 and target.address in self._targets:
            reading = read(target.metrics, self._parse(page, self._names[target.address]))
            own = max(own_before, self._sink.own_requests(target.address))
            self._sink.scraped(target.address, reading, own, self._clock())
            self._pace.measured(self._cpu_clock() - cpu_before_s)
        return True

    async def _read_models(self, target: Target, health: _Health) -> bool:
        """Whether the server answered at all."""
        health.models_due_s = self._clock() + _MODELS_RETRY_S
        try:
            status, body = await self._get(target.address, "/v1/models")
        except _FetchError:
            return False
        answer = _models(body) if status == 200 else None
        if answer is not None and target.address in self._targets:
            low_s, high_s = _MODELS_EVERY_S
            health.models_due_s = self._clock() + low_s + (high_s - low_s) * self._random()
            self._sink.models(target.address, answer)
        return True

    async def _get(self, address: str, path: str) -> tuple[int, bytes]:
        try:
            async with self._session.get(
                f"http://{address}{path}", timeout=self._timeout, allow_redirects=False
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > _PAGE_BYTES_MAX:
                        raise _FetchError(f"{address}{path}: more than {_PAGE_BYTES_MAX} bytes")
                return response.status, bytes(body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _FetchError(f"{address}{path}: {error}") from error

    def _succeeded(self, address: str) -> None:
        health = self._health[address]
        health.failures = 0
        if health.reachable is not True:
            health.reachable = True
            self._sink.reachable(address, True)

    def _failed(self, address: str) -> None:
        health = self._health[address]
        health.failures += 1
        health.models_due_s = float("-inf")  # ask first thing when it is back
        if health.failures >= _FAILURES_MAX and health.reachable is not False:
            health.reachable = False
            self._sink.reachable(address, False)


def _models(body: bytes) -> Served | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    cards = answer.get("data") if isinstance(answer, dict) else None
    return served(cards) if isinstance(cards, list) else None
