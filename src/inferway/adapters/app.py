"""The syncer as a program: the file is read again and again, servers come and go, metrics are
served.

`sync_once` is for scripts, `keep_in_sync` for a side-car or a daemon. On `stop` calls under way get
a bounded time to end; nothing has to be cleaned up, because the next start looks at the servers.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from inferway.adapters.config_file import ConfigFile
from inferway.adapters.metrics import SyncMetrics
from inferway.adapters.model_server import HttpModelServer
from inferway.adapters.server_sync import SyncSettings
from inferway.adapters.syncer import Syncer
from inferway.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from inferway.adapters.config import SyncConfig
    from inferway.adapters.plan import Call

log = get_logger("adapters")

LOOK_EVERY_S = 0.5  # at the file: a swapped link gives no event
STOP_TIMEOUT_S = 10.0  # for calls under way
CONNECTIONS_MAX = 100  # to all servers together


class NoConfigError(Exception):
    """There is no good configuration. The text says what is wrong, one problem per line."""


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """`concurrency`: loads and unloads at once, on all servers together."""

    config: Path
    settings: SyncSettings = field(default_factory=SyncSettings)
    concurrency: int = 8
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 8080


async def sync_once(
    options: SyncOptions,
    targets: Callable[[SyncConfig], Sequence[str]],
    *,
    dry_run: Callable[[str, Call], None] | None = None,
) -> bool:
    """Whether every server is as wanted in the end (with `dry_run`: whether it is already).
    Raises NoConfigError.
    """
    file = ConfigFile(options.config)
    file.refresh(certainly=True)
    if file.config is None:
        raise NoConfigError("\n".join(map(str, file.problems)))
    async with _syncer(options, SyncMetrics(), dry_run) as syncer:
        syncer.set_config(file.config)
        syncer.set_targets(targets(file.config))
        return await syncer.once()


async def keep_in_sync(
    options: SyncOptions, targets: Callable[[SyncConfig], Sequence[str]], *, stop: asyncio.Event
) -> None:
    """Until `stop`. OSError when the metrics port cannot be opened."""
    metrics = SyncMetrics()
    async with _syncer(options, metrics, None) as syncer:
        runner = await _serve_metrics(options, syncer, metrics)
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(syncer.run())
                await _follow(options, targets, syncer, metrics, stop)
                syncer.stop()
                _done, late = await asyncio.wait({work}, timeout=STOP_TIMEOUT_S)
                for task in late:
                    log.warning("calls_cut_off", after_s=STOP_TIMEOUT_S)
                    task.cancel()
        finally:
            await runner.cleanup()


@asynccontextmanager
async def _syncer(
    options: SyncOptions, metrics: SyncMetrics, dry_run: Callable[[str, Call], None] | None
) -> AsyncIterator[Syncer]:
    slots = asyncio.Semaphore(options.concurrency)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX + options.concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Syncer(
            lambda url: HttpModelServer(url, session, slots),
            counts=metrics,
            clock=asyncio.get_running_loop().time,
            settings=options.settings,
            dry_run=dry_run,
        )


async def _follow(
    options: SyncOptions,
    targets: Callable[[SyncConfig], Sequence[str]],
    syncer: Syncer,
    metrics: SyncMetrics,
    stop: asyncio.Event,
) -> None:
    """Hands over what the file and the targets say, until `stop`."""
    file = ConfigFile(options.config)
    clock = asyncio.get_running_loop().time
    due_s = clock()
    while not stop.is_set():
        is_due = clock() >= due_s
        if is_due:
            due_s = clock() + options.settings.reconcile_every_s
        changed = await asyncio.to_thread(file.refresh, certainly=is_due)
        if changed:
            _report(file, metrics)
        if file.config is not None and file.config is not syncer.config:
            syncer.set_config(file.config)
            is_due = True
        if file.config is not None and is_due:
            syncer.set_targets(await asyncio.to_thread(targets, file.config))
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await stop.wait()
        except TimeoutError:
            continue


def _report(file: ConfigFile, metrics: SyncMetrics) -> None:
    metrics.config_reads.labels("bad" if file.problems else "good").inc()
    for problem in file.problems:
        in_force = "the last good version" if file.config else "nothing"
        log.error("config_is_bad", problem=str(problem), in_force=in_force)
    if not file.problems:
        log.info("config_read", file=str(file.path))


async def _serve_metrics(
    options: SyncOptions, syncer: Syncer, metrics: SyncMetrics
) -> web.AppRunner:
    """/metrics, /healthz, and /readyz: 200 when every server is as wanted."""

    async def exposition(_request: web.Request) -> web.Response:
        text = metrics.text(syncer.adapters())
        return web.Response(text=text, headers={"content-type": "text/plain; version=0.0.4"})

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        ready = syncer.in_sync
        return web.Response(
            text="in sync\n" if ready else "not in sync\n", status=200 if ready else 503
        )

    app = web.Application()
    app.router.add_get("/metrics", exposition)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.metrics_host, options.metrics_port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner
