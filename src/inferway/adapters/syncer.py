"""All servers' adapters: which servers there are, one configuration for all, one task for each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from inferway.adapters.plan import conflicts
from inferway.adapters.server_sync import ServerSync, SyncSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from inferway.adapters.config import SyncConfig
    from inferway.adapters.model_server import ModelServerApi
    from inferway.adapters.plan import Call
    from inferway.adapters.server_sync import Counts


class Syncer:
    """`api_of` makes the client of a server from its URL. Make it inside a running event loop."""

    def __init__(
        self,
        api_of: Callable[[str], ModelServerApi],
        *,
        counts: Counts,
        clock: Callable[[], float],
        settings: SyncSettings | None = None,
        dry_run: Callable[[str, Call], None] | None = None,
    ) -> None:
        """`dry_run` is told what would be called; nothing is called then."""
        self._api_of = api_of
        self._counts = counts
        self._clock = clock
        self._settings = settings or SyncSettings()
        self._dry_run = dry_run
        self._config: SyncConfig | None = None
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self.servers: dict[str, ServerSync] = {}

    @property
    def config(self) -> SyncConfig | None:
        """The last good one; None before the first."""
        return self._config

    @property
    def in_sync(self) -> bool:
        """Whether every server has been seen to be as wanted."""
        return self._config is not None and all(one.in_sync for one in self.servers.values())

    def set_config(self, config: SyncConfig) -> None:
        """In force at once, on every server."""
        self._config = config
        for server in self.servers.values():
            server.config = config
            server.wake.set()

    def set_targets(self, urls: Iterable[str]) -> None:
        """The servers from now on; those not named are left as they are and no longer looked at."""
        wanted = dict.fromkeys(urls)
        if list(wanted) != list(self.servers):
            self.servers = {url: self.servers.get(url) or self._server(url) for url in wanted}
            self._changed.set()

    def adapters(self) -> Iterator[tuple[str, str, bool]]:
        """Adapter, server, and whether it is loaded there, of everything that the configuration
        names and does not contradict. A server that was not reached has none.
        """
        config = self._config
        if config is None:
            return
        skipped = frozenset(conflicts(config))
        wanted = [one.id for one in config.ensure_exist.models if one.id not in skipped]
        unwanted = [one.id for one in config.ensure_not_exist.models if one.id not in skipped]
        for url, server in self.servers.items():
            seen = server.satisfied
            yield from ((name, url, seen.get(name, False)) for name in wanted)
            yield from ((name, url, not seen.get(name, True)) for name in unwanted)

    async def run(self) -> None:
        """Keeps every server as wanted until `stop`."""
        tasks: dict[ServerSync, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                self._changed.clear()
                present = set(self.servers.values())
                for server in [one for one in tasks if one not in present]:
                    tasks.pop(server).cancel()
                for server in self.servers.values():
                    if server not in tasks:
                        tasks[server] = group.create_task(server.run())
                await self._changed.wait()

    async def once(self) -> bool:
        """One turn of every server; whether all of them are as wanted."""
        async with asyncio.TaskGroup() as group:
            turns = [group.create_task(one.once()) for one in self.servers.values()]
        return all(turn.result() for turn in turns)

    def stop(self) -> None:
        """`run` ends when the turns under way have ended."""
        self._stop.set()
        self._changed.set()
        for server in self.servers.values():
            server.wake.set()

    def _server(self, url: str) -> ServerSync:
        return ServerSync(
            url=url,
            api=self._api_of(url),
            settings=self._settings,
            counts=self._counts,
            clock=self._clock,
            stop=self._stop,
            dry_run=self._dry_run,
            config=self._config,
        )
