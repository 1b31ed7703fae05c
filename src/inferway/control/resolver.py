"""DNS names of model servers to addresses, kept fresh.

Problem: Envoy and the picker must agree on `ip:port`, because the picker's answer names the
endpoint that Envoy looks up; and a name server that hangs must hold up nobody else. Model: control
resolves each name for both; every name has at most one look-up under way, and its answer counts as
soon as it is there. Invariants: a name that stops resolving keeps its last addresses; one that
never resolved has none, and its servers are simply not endpoints yet. `addresses` is replaced,
never changed, so that whoever used it can tell by identity whether it is still the same.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from inferway.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    LookUp = Callable[[str], Awaitable[Iterable[str]]]
    AddressInfo = tuple[int, int, int, str, tuple[str | int | bytes, ...]]

log = get_logger("resolver")

REFRESH_S = 10.0
LOOK_UPS_MAX = 8  # under way at once
ADDRESSES_MAX = 64  # per name; more is a mistake in DNS, not a pool


class SystemLookUp:
    """The system's resolver, in threads of its own: the loop's own threads do other work, which
    names that hang must not hold up. OSError when a name has no address.
    """

    def __init__(
        self, getaddrinfo: Callable[..., Iterable[AddressInfo]] = socket.getaddrinfo
    ) -> None:
        self._getaddrinfo = getaddrinfo
        self._threads = ThreadPoolExecutor(LOOK_UPS_MAX, thread_name_prefix="resolver")

    async def __call__(self, name: str) -> set[str]:
        """IP addresses, without those that mean something on one network interface only."""
        ask = partial(self._getaddrinfo, name, None, type=socket.SOCK_STREAM)
        infos = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        found = {ipaddress.ip_address(str(info[4][0])) for info in infos}
        return {str(one) for one in found if not getattr(one, "scope_id", None)}


class Resolver:
    """Owns name → addresses. `on_change` is called from the loop whenever an answer differs from
    the one before. `look_up` raises OSError or UnicodeError for a name that does not resolve.
    """

    def __init__(
        self,
        on_change: Callable[[], None],
        *,
        look_up: LookUp | None = None,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self.addresses: Mapping[str, tuple[str, ...]] = {}
        self._on_change = on_change
        self._look_up = look_up or SystemLookUp()
        self._refresh_s = refresh_s
        self._wanted: frozenset[str] = frozenset()
        self._under_way: set[str] = set()
        self._failing: set[str] = set()
        self._wake = asyncio.Event()

    def want(self, names: Iterable[str]) -> None:
        """The names that matter from now on; others are forgotten."""
        wanted = frozenset(names)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._failing &= wanted
        self.addresses = {name: a for name, a in self.addresses.items() if name in wanted}
        self._wake.set()

    async def run(self) -> None:
        """Resolves until cancelled: at once when the names change, else every `refresh_s`."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                for name in sorted(self._wanted - self._under_way):
                    self._under_way.add(name)
                    tasks.create_task(self._refresh(name))
                try:
                    async with asyncio.timeout(self._refresh_s if self._wanted else None):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _refresh(self, name: str) -> None:
        try:
            found = tuple(sorted(set(await self._look_up(name)))[:ADDRESSES_MAX])
        except (OSError, UnicodeError) as error:
            if name not in self._failing:
                self._failing.add(name)
                log.warning("name_does_not_resolve", name=name, error=str(error))
            return
        finally:
            self._under_way.discard(name)
        self._failing.discard(name)
        if found and name in self._wanted and self.addresses.get(name) != found:
            self.addresses = {**self.addresses, name: found}
            self._on_change()
