"""The picker process: what it is made of and how it lives and ends.

Problem: decisions must go on while configurations change, control is away and endpoints misbehave.
Model: one event loop; the desk decides, the server carries frames, the scraper reads endpoints, the
subscriber what they tell of their caches, the link follows control; all are owned by one task
group, so a part that fails ends the process and its supervisor restarts it. Invariants: the pick
socket opens only when a configuration is in force (a filter that cannot connect fails open; one
that is told "no such pool" would fail requests); picks are answered until `stop` is set. It sets no
signal handlers: the caller does.

Garbage collection: nothing on the path of a request makes cycles, so reference counting frees it.
A full collection walks every object and would keep decisions waiting for tens of milliseconds; so
what exists after the start is frozen, the oldest generation is never collected by itself, and
`keep_memory_clean` collects it while no picks come, at the latest every ten minutes.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import aiohttp
import numpy as np

from inferway._native import PrefixIndex, hash_seed, parse_metrics
from inferway.observability.logging import get_logger
from inferway.picker.config import PickerConfig, PickerStatus
from inferway.picker.control_link import ConfigRefusedError, ControlLink
from inferway.picker.datalayer.kv_events.subscriber import Subscriber, sources
from inferway.picker.datalayer.prefix import PrefixStore
from inferway.picker.datalayer.scrape import Scraper, Target
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.desk import PickDesk
from inferway.picker.explainer import Explainer
from inferway.picker.exposition import Sources, render
from inferway.picker.metrics import PickerMetrics
from inferway.picker.plugin_library import PluginLibrary
from inferway.picker.server import PickServer
from inferway.picker.unix_socket import listening_unix_socket, remove_unix_socket

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.picker.config import PoolStatus
    from inferway.picker.scheduling.contracts import Random

# Young objects are looked at every 20,000 allocations, the middle generation every 400,000.
GC_THRESHOLDS: Final = (20_000, 20, 1_000_000)
GC_LOOK_INTERVAL_S: Final = 30.0
GC_IDLE_S: Final = 1.0
GC_INTERVAL_MAX_S: Final = 600.0
PLUGIN_LOOK_INTERVAL_S: Final = 0.5
# Rendering the page of metrics may use half a per cent of a core: it waits so long times its cost.
PAGE_INTERVAL_MIN_S: Final = 1.0
PAGE_COST_FACTOR: Final = 200.0


async def run_picker(
    pick_socket: Path,
    control_socket: Path | None,
    config: PickerConfig | None,
    *,
    stop: asyncio.Event,
    ready: asyncio.Event | None = None,
    plugin_directory: Path | None = None,
) -> None:
    """Answers picks on `pick_socket` until `stop` is set; `ready` is set once it listens.

    `config` is in force until control sends another. Without it, the first one of control is
    waited for; without both, there are no pools. Plugins may come from files of
    `plugin_directory`, which are loaded again when they change. OSError when the socket cannot be
    bound, ValueError when `config` cannot be used.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0)
    async with aiohttp.ClientSession(connector=connector) as session:
        plugins = PluginLibrary(plugin_directory)
        picker = Picker(config or PickerConfig(version=0), session, plugins)
        async with asyncio.TaskGroup() as tasks:
            owned = [
                tasks.create_task(picker.scrape()),
                tasks.create_task(picker.subscriber.run()),
                tasks.create_task(keep_memory_clean(picker)),
                tasks.create_task(picker.reload_plugins()),
            ]
            if control_socket is not None:
                owned.append(tasks.create_task(picker.link(control_socket).run()))
                if config is None:
                    await _either(stop, picker.configured)
            if not stop.is_set():
                await _serve(picker, pick_socket, stop, ready)
            for task in owned:
                task.cancel()


async def _serve(
    picker: Picker, path: Path, stop: asyncio.Event, ready: asyncio.Event | None
) -> None:
    log = get_logger("picker")
    picker.server.start(listening_unix_socket(path))
    try:
        freeze_memory()
        log.info("picker_started", version=picker.desk.runtime.config.version)
        if ready is not None:
            ready.set()
        await stop.wait()
    finally:
        picker.server.stop()
        remove_unix_socket(path)
        log.info("picker_stopped")


async def _either(*events: asyncio.Event) -> None:
    """Returns when one of the events is set."""
    async with asyncio.TaskGroup() as tasks:
        waits = [tasks.create_task(event.wait()) for event in events]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


class Picker:
    """All parts of one picker, wired. Made on the event loop that runs it."""

    def __init__(
        self, config: PickerConfig, session: aiohttp.ClientSession, plugins: PluginLibrary
    ) -> None:
        self._plugins = plugins
        self.metrics = PickerMetrics()
        self.configured = asyncio.Event()
        self._session = session
        self._index = PrefixIndex(config.index_blocks_max)
        self._randomness = np.random.default_rng()
        self._rescrape = asyncio.Event()
        self._page = ""
        self._page_due_s = 0.0
        layer = DataLayer(self._index, hash_seed)
        self.subscriber = Subscriber(
            layer.kv_events, clock=time.monotonic, cpu_clock=time.perf_counter
        )
        self.desk = PickDesk(
            layer,
            self.metrics,
            config,
            clock=time.monotonic,
            random_of=self._random_of,
            picked=self._picked,
            answered=self._answered,
            send=self._send,
            plugins=plugins,
        )
        self.scraper = self._new_scraper(config)
        self.server = PickServer(
            self.desk,
            self.metrics,
            epoch=secrets.randbits(64),
            heartbeat_ms=config.heartbeat_ms,
            clock=time.perf_counter,
        )
        self._follow(config)

    def link(self, path: Path) -> ControlLink:
        explainer = Explainer(
            self.desk.ring, clock=time.monotonic, wall=lambda: datetime.now(tz=UTC)
        )
        return ControlLink(
            path,
            apply=self.apply,
            status=self.status,
            fingerprint=self.fingerprint,
            explain=explainer.answer,
        )

    def apply(self, config: PickerConfig) -> None:
        """Puts a configuration into force, or raises ConfigRefusedError and changes nothing."""
        before = self.desk.runtime.config
        layer = self.desk.layer
        index, prefixes = self._index, layer.prefixes
        if config.index_blocks_max != before.index_blocks_max:
            self._index = PrefixIndex(config.index_blocks_max)  # which prompts are where is lost
            layer.prefixes = PrefixStore(self._index, hash_seed)
        try:
            self.desk.configure(config)
        except ValueError as problem:
            self._index, layer.prefixes = index, prefixes
            self.metrics.configs_refused += 1
            raise ConfigRefusedError(str(problem)) from problem
        self.metrics.configs_applied += 1
        self.server.heartbeat_ms = config.heartbeat_ms
        if config.scrape != before.scrape:
            self.scraper = self._new_scraper(config)
            self._rescrape.set()
        self._follow(config)
        self.configured.set()

    def fingerprint(self) -> object:
        """Changes when control should hear of it before the next second."""
        desk = self.desk
        layer = desk.layer
        revisions = layer.catalog.revision, layer.health.revision
        return desk.runtime.config.version, *revisions, self.server.filters

    async def status(self, error: str) -> PickerStatus:
        now_s = time.monotonic()
        status = PickerStatus(
            version=self.desk.runtime.config.version,
            up_s=now_s - self.desk.ring.started_s,
            pools=tuple(self._pool_status(name, now_s) for name in self.desk.layer.pools),
            error=error,
            filters=self.server.filters,
            versions=self.metrics.versions.status(),
        )
        if now_s >= self._page_due_s:
            started_s = time.thread_time()
            self._page = await render(
                Sources(
                    self.metrics,
                    status,
                    self._index,
                    self.server.open_streams,
                    (self.desk.layer.kv_events, self.subscriber),
                    self.desk.holding.counters(),
                ),
                time.perf_counter,
            )
            cost_s = time.thread_time() - started_s
            self._page_due_s = now_s + max(PAGE_INTERVAL_MIN_S, PAGE_COST_FACTOR * cost_s)
        return status.model_copy(update={"metrics": self._page})

    def _pool_status(self, pool: str, now_s: float) -> PoolStatus:
        status = self.desk.layer.status(pool, now_s)
        plugins = self.desk.profiles.status(pool)
        known = {
            "traffic": self.metrics.traffic(pool),
            "plugins": plugins,
            "flow": self.desk.holding.status(pool, now_s),
        }
        return status.model_copy(update=known)

    async def scrape(self) -> None:
        """Runs the scraper; a new one when its settings change."""
        while True:
            self._rescrape.clear()
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(self.scraper.run())
                await self._rescrape.wait()
                running.cancel()

    async def reload_plugins(self) -> None:
        """Puts new versions of plugin files into force, until cancelled."""
        while True:
            await asyncio.sleep(PLUGIN_LOOK_INTERVAL_S)
            if self._plugins.has_files and await asyncio.to_thread(self._plugins.refresh):
                self.desk.configure(self.desk.runtime.config)

    def _follow(self, config: PickerConfig) -> None:
        self.metrics.measure(config.measured)
        engines = self.desk.layer.engines
        self.scraper.set_targets(
            [Target(address, path, names) for address, (names, path) in engines.items()]
        )
        endpoints = [endpoint for pool in config.pools for endpoint in pool.endpoints]
        publishing = {one.address: one.kv_events for one in endpoints if one.kv_events is not None}
        self.subscriber.follow(
            [one for address, events in publishing.items() for one in sources(address, events)]
        )

    def _new_scraper(self, config: PickerConfig) -> Scraper:
        return Scraper(
            config.scrape,
            self._session,
            self.desk,
            parse=parse_metrics,
            clock=time.monotonic,
            cpu_clock=time.process_time,
            random=self._randomness.random,
        )

    def _random_of(self, _pool: str) -> Random:
        return self._randomness.spawn(1)[0]

    def _picked(self, now_s: float) -> None:
        self.scraper.picked(now_s)

    def _answered(self, address: str) -> None:
        self.scraper.answered(address)

    def _send(self, connection: int, data: bytes) -> None:
        self.server.send(connection, data)


def freeze_memory() -> None:
    """Takes what exists now out of collections; see the module's text."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def keep_memory_clean(picker: Picker) -> None:
    """Collects the oldest generation when it disturbs nobody, until cancelled."""
    collected_s = time.monotonic()
    while True:
        await asyncio.sleep(GC_LOOK_INTERVAL_S)
        while time.monotonic() - collected_s < GC_INTERVAL_MAX_S:
            batches = len(picker.metrics.batch_requests)
            await asyncio.sleep(GC_IDLE_S)
            if len(picker.metrics.batch_requests) == batches:
                break
        gc.collect()
        collected_s = time.monotonic()
