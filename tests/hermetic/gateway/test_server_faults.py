"""What servers do wrong, and what the gateway makes of it: one of two misbehaves, then both."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from inferway.simulator.faults import FaultRule

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from inferway.simulator.server import SimServer

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

PATH = "/v1/chat/completions"
CHAT = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
CONFIG = """
apiVersion: inferway.dev/v1alpha1
kind: EndpointPickerConfig
metadata: {name: quick}
plugins: [{type: round-robin}]
health: {ejectionTime: 1s, maxEjectionTime: 2s}
---
"""


@asynccontextmanager
async def two_servers(tmp_path: Path) -> AsyncIterator[Bench]:
    folder = tmp_path / "manifests"
    folder.mkdir()
    async with servers(2, model="llama", engine="instant") as running:
        pool = pool_manifest("all", annotations="inferway.dev/picker-config: quick")
        text = CONFIG + pool + "".join(server_manifest(one, "all") for one in running)
        (folder / "all.yaml").write_text(text)
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            yield Bench(gateway, running)


class Bench:
    def __init__(self, gateway: RunningGateway, running: list[SimServer]) -> None:
        self.gateway = gateway
        self.bad, self.good = running

    def got(self, server: SimServer) -> int:
        return server.requests.by_path[PATH]

    async def send(self, requests: int) -> tuple[dict[int, int], int, int]:
        """Answers by status, and how many attempts the bad and the good server saw."""
        bad, good = self.got(self.bad), self.got(self.good)
        statuses: dict[int, int] = {}
        for _ in range(requests):
            status, _headers, _reply = await self.gateway.post(CHAT)
            statuses[status] = statuses.get(status, 0) + 1
        return statuses, self.got(self.bad) - bad, self.got(self.good) - good

    async def state(self, server: SimServer) -> dict[str, Any]:
        (pool,) = (await self.gateway.status())["pools"]
        (found,) = [one for one in pool["endpoints"] if one["address"] == server.address]
        return dict(found)

    async def until(self, server: SimServer, **wanted: object) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        async def holds() -> bool:
            seen.update(await self.state(server))
            return all(seen[name] == value for name, value in wanted.items())

        await self.gateway.until(f"{server.address}: {wanted}", holds)
        return seen

    async def until_ejected(self, server: SimServer, cause: str) -> None:
        async def holds() -> bool:
            return cause in (await self.state(server))["ejections"]

        await self.gateway.until(f"{server.address} is ejected for {cause}", holds)

    async def well(self) -> None:
        """Both are as if nothing had happened; it takes requests to find that out."""
        self.bad.faults = self.good.faults = ()

        async def holds() -> bool:
            await self.gateway.post(CHAT)
            states = [await self.state(one) for one in (self.bad, self.good)]
            return all(one["health"] == "active" and one["weight"] == 1.0 for one in states)

        await self.gateway.until("both are well", holds)


async def test_one_of_two_misbehaves(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as bench:
        bad = bench.bad

        # Client errors change nothing, however many.
        bad.faults = (FaultRule("error", PATH, status=400),)
        statuses, bad_saw, _ = await bench.send(40)
        assert statuses == {200: 20, 400: 20}
        assert bad_saw == 20
        assert await bench.until(bad, health="active", weight=1.0, faults={})

        # Busy: all are rescued, it is left alone until Retry-After is over, and not ejected.
        bad.faults = (FaultRule("unavailable", PATH, retry_after_s=4),)
        statuses, bad_saw, _ = await bench.send(20)
        assert statuses == {200: 20}
        assert bad_saw <= 2, "one picked, at most one more on its way when the report came"
        state = await bench.until(bad, weight=0.0)
        assert (state["health"], state["ready"], state["ejections"]) == ("active", True, {})
        assert 1.0 < state["until_s"] <= 4.0
        bad.faults = (FaultRule("unavailable", PATH, retry_after_s=0),)
        await bench.until(bad, weight=1.0)

        # Busy without a time: a smaller share, whole again soon after the storm.
        statuses, bad_saw, good_saw = await bench.send(60)
        assert statuses == {200: 60}
        assert bad_saw < 20
        assert good_saw == 60
        bad.faults = ()
        async with asyncio.timeout(2.0 + 2.0):  # with something for a slow machine
            while (await bench.send(4))[1] < 2:
                await asyncio.sleep(0.05)
        state = await bench.until(bad, weight=1.0)
        assert state["faults"].keys() == {"back_pressure"}
        assert state["ejections"] == {}

        # Connections that break: all are rescued, it is ejected, tried, and comes back.
        bad.faults = (FaultRule("reset", PATH),)
        statuses, bad_saw, _ = await bench.send(40)
        assert statuses == {200: 40}
        assert 5 <= bad_saw <= 8
        state = await bench.until(bad, health="ejected")
        assert (state["ready"], state["unready"], state["cause"]) == (False, "ejected", "reset")
        await bench.until(bad, health="probing")
        before = bench.got(bad)
        assert (await bench.send(10))[0] == {200: 10}
        assert bench.got(bad) == before + 1, "the probe"
        await bench.well()
        assert (await bench.send(10))[1] == 5

        # Errors of its own go to the client; after five it is out.
        bad.faults = (FaultRule("error", PATH, status=500),)
        statuses, bad_saw, _ = await bench.send(40)
        assert statuses[500] == bad_saw <= 8
        await bench.until_ejected(bad, "status")

        async def counted() -> bool:
            async with bench.gateway.session.get(f"{bench.gateway.admin}/metrics") as reply:
                lines = (await reply.text()).splitlines()
            found = [one for one in lines if one.startswith("inferway_endpoint_ejections_total{")]
            return any(bad.address in one and '"reset"' in one for one in found)

        await bench.gateway.until("ejections are counted", counted)


async def test_all_misbehave(tmp_path: Path) -> None:
    """Nothing is better than something: all are used, and the first that is well serves."""
    async with two_servers(tmp_path) as bench:
        for server in (bench.bad, bench.good):
            server.faults = (FaultRule("error", PATH, status=500),)
        statuses, bad_saw, good_saw = await bench.send(40)
        assert statuses == {500: 40}
        assert min(bad_saw, good_saw) >= 5
        # Both have been ejected, and served all the same.
        for server in (bench.bad, bench.good):
            await bench.until_ejected(server, "status")
        states = [await bench.state(server) for server in (bench.bad, bench.good)]
        assert all(one["ready"] for one in states), states
        await bench.well()
        assert (await bench.send(10))[0] == {200: 10}
