"""Envoy's admin interface over its unix socket: ready, drain, and what is still running.

One short connection per question; nothing is kept open. Envoy that is not there, or does not answer
in time, is an `AdminUnavailableError`.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from inferway.envoy.listeners import STAT_PREFIX

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 2.0
_ACTIVE = rf"^http\.{STAT_PREFIX}\d+\.downstream_rq_active$"


class AdminUnavailableError(Exception):
    """Envoy's admin socket gave no answer."""


class EnvoyAdmin:
    """Questions to one Envoy."""

    def __init__(self, socket: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._socket = socket
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def ready(self) -> bool:
        """Whether its first configuration is complete and it accepts connections."""
        status, _text = await self.request("GET", "/ready")
        return status == HTTPStatus.OK

    async def active_requests(self) -> int:
        """Requests of clients that are running now."""
        _status, text = await self.request("GET", "/stats", filter=_ACTIVE, format="json")
        found = json.loads(text)["stats"]
        return sum(int(one["value"]) for one in found if "value" in one)

    async def start_draining(self) -> None:
        """Accepts no new connection; tells clients on the present ones to go after their answer."""
        await self.request("POST", "/healthcheck/fail")
        await self.request("POST", "/drain_listeners")

    async def statistics(self) -> str:
        """All metrics in Prometheus' text form."""
        _status, text = await self.request("GET", "/stats/prometheus")
        return text

    async def cluster_states(self) -> str:
        """All endpoints of all clusters with their health, as JSON text."""
        _status, text = await self.request("GET", "/clusters", format="json")
        return text

    async def request(self, method: str, path: str, **query: str) -> tuple[int, str]:
        """Status and body of one admin request. Raises AdminUnavailableError."""
        connector = aiohttp.UnixConnector(path=str(self._socket), force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session,
                session.request(method, f"http://envoy{path}", params=query) as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AdminUnavailableError(f"no answer from Envoy: {error}") from error
