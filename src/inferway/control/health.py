"""Keeps control informed about unhealthy endpoints, at a bounded cost.

Problem: Envoy decides on the health of endpoints and tells nobody. Model: control asks for the
state of all clusters, again and again: a state, unlike events, survives a restart of any part and
cannot be missed. The answer has some 1.5 KB per endpoint, so the pace follows what a question
costs: at most `COST_MAX_RATIO` of the time is spent on asking, and never more than one question per
`INTERVAL_MIN_S`. To Envoy one
failure is enough where nothing passed before; a server that is just starting is given `GRACE_S`, in
which requests that it refuses go to another, as ever. Invariants: while Envoy does not answer, what
it said last holds; when Envoy is started anew, it says nothing until it has asked the endpoints
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from inferway.envoy.admin import AdminUnavailableError
from inferway.envoy.cluster_health import backends_without_server, checked_endpoints
from inferway.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inferway.envoy.cluster_health import Found, Unhealthy

INTERVAL_MIN_S: Final = 0.25
INTERVAL_MAX_S: Final = 5.0
COST_MAX_RATIO: Final = 0.01
GRACE_S: Final = 10.0
FIRST_CHECKS_INTERVAL_S: Final = 0.05

_PASSED: Final = float("-inf")

log = get_logger("health")


class HealthWatch:
    """`ask` gets Envoy's answer; `changed` is called when `unhealthy` is new, which is replaced and
    never changed, so that it can be compared by identity. `clock` counts seconds.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[str]],
        *,
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.unhealthy: Unhealthy = MappingProxyType({})
        # When each endpoint failed first, as long as it never passed.
        self._since: dict[tuple[str, str], float] = {}
        self._ask = ask
        self._changed = changed
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(pause_s(await self.look()))

    async def look(self) -> float:
        """One question; the seconds that it took."""
        started_s = self._clock()
        try:
            checked = checked_endpoints(await self._ask())
        except (AdminUnavailableError, ValueError):
            return 0.0  # not up, or ended in the middle of an answer
        took_s = self._clock() - started_s
        found = self._unhealthy(checked)
        if found != self.unhealthy:
            self._report(found)
            self.unhealthy = found
            self._changed()
        return took_s

    def _unhealthy(self, checked: Found) -> Unhealthy:
        now_s = self._clock()
        since = {
            (pool, address): self._since.get((pool, address), now_s) if not healthy else _PASSED
            for pool, endpoints in checked.items()
            for address, healthy in endpoints.items()
        }
        # Who passed once has no grace any more.
        since = {
            key: _PASSED if self._since.get(key) == _PASSED else first_s
            for key, first_s in since.items()
        }
        self._since = since
        found = {
            pool: frozenset(
                address
                for address, healthy in endpoints.items()
                if not healthy and now_s - since[pool, address] >= GRACE_S
            )
            for pool, endpoints in checked.items()
        }
        return {pool: addresses for pool, addresses in found.items() if addresses}

    def _report(self, found: Unhealthy) -> None:
        none: frozenset[str] = frozenset()
        for pool in sorted(found.keys() | self.unhealthy.keys()):
            now, before = found.get(pool, none), self.unhealthy.get(pool, none)
            for address in sorted(now - before):
                log.warning("endpoint_unhealthy", pool=pool, endpoint=address)
            for address in sorted(before - now):
                log.info("endpoint_no_longer_unhealthy", pool=pool, endpoint=address)


async def until_backends_serve(
    ask: Callable[[], Awaitable[str]], stop: asyncio.Event, *, patience_s: float
) -> tuple[str, ...]:
    """Waits until every backend has a server that passed its check, `stop`, or the end of the
    patience. The clusters of the backends that have none.
    """
    waiting: tuple[str, ...] = ()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while not stop.is_set():
                with contextlib.suppress(AdminUnavailableError, ValueError):
                    waiting = backends_without_server(await ask())
                    if not waiting:
                        break
                await asyncio.sleep(FIRST_CHECKS_INTERVAL_S)
    return waiting


def pause_s(took_s: float) -> float:
    """How long to wait after a question that took so long."""
    return min(max(INTERVAL_MIN_S, took_s / COST_MAX_RATIO), INTERVAL_MAX_S)
