"""DNS names of model servers to addresses, kept fresh.

Envoy and the picker must agree on `ip:port`, because the picker's answer names the endpoint that
Envoy looks up. So control resolves each name once for both. A name that stops resolving keeps its
last addresses; one that never resolved has none, and its servers are simply not endpoints yet.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = structlog.get_logger(__name__)

REFRESH_S = 10.0
ADDRESSES_MAX = 64  # per name; more is a mistake in DNS, not a pool


class Resolver:
    """Owns name → addresses. `on_change` is called from the loop whenever an answer differs from
    the one before.
    """

    def __init__(self, on_change: Callable[[], None], *, refresh_s: float = REFRESH_S) -> None:
        self._on_change = on_change
        self._refresh_s = refresh_s
        self._wanted: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self.addresses: dict[str, tuple[str, ...]] = {}

    def want(self, names: Iterable[str]) -> None:
        """The names that matter from now on; others are forgotten."""
        wanted = frozenset(names)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self.addresses = {name: a for name, a in self.addresses.items() if name in wanted}
        self._wake.set()

    async def run(self) -> None:
        """Resolves until cancelled: at once when the names change, else every `refresh_s`."""
        while True:
            self._wake.clear()
            answers = await asyncio.gather(*(self._resolve(name) for name in sorted(self._wanted)))
            changed = False
            for name, found in answers:
                if found and self.addresses.get(name) != found and name in self._wanted:
                    self.addresses[name] = found
                    changed = True
            if changed:
                self._on_change()
            try:
                async with asyncio.timeout(self._refresh_s if self._wanted else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _resolve(self, name: str) -> tuple[str, tuple[str, ...]]:
        loop = asyncio.get_running_loop()
        try:
            infos = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            log.warning("name does not resolve", name=name, error=str(error))
            return name, ()
        found = sorted({str(ipaddress.ip_address(info[4][0])) for info in infos})
        return name, tuple(found[:ADDRESSES_MAX])
