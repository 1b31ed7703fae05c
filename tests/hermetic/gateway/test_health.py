"""Endpoints whose health checks fail get no new requests, keep those they have, and come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from inferway.simulator.faults import FaultRule

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from inferway.simulator.server import SimServer

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

CHAT = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
SICK = FaultRule("error", path="/health", status=500)


def gateway_of(
    tmp_path: Path, running: list[SimServer], more: str = ""
) -> AbstractAsyncContextManager[RunningGateway]:
    folder = tmp_path / "manifests"
    folder.mkdir()
    pool = pool_manifest("all", annotations="inferway.dev/policy: round-robin")
    text = more + pool + "".join(server_manifest(one, "all") for one in running)
    (folder / "all.yaml").write_text(text)
    return running_gateway(folder, str(folder), models=("llama",))


async def ready(gateway: RunningGateway) -> dict[str, bool]:
    pools = (await gateway.status())["pools"]
    return {one["address"]: one["ready"] for pool in pools for one in pool["endpoints"]}


async def until_ready(gateway: RunningGateway, server: SimServer, wanted: bool) -> None:
    async def holds() -> bool:
        return (await ready(gateway)).get(server.address) is wanted

    await gateway.until(f"{server.address} ready: {wanted}", holds)


async def served_by(gateway: RunningGateway, running: list[SimServer], requests: int) -> list[int]:
    """How many of so many requests, all answered 200, each server got."""
    before = [server.requests.by_path["/v1/chat/completions"] for server in running]
    for _ in range(requests):
        status, _headers, reply = await gateway.post(CHAT)
        assert status == 200, reply
    after = [server.requests.by_path["/v1/chat/completions"] for server in running]
    return [now - then for now, then in zip(after, before, strict=True)]


async def test_a_server_whose_health_fails_gets_nothing_new_until_it_is_well(
    tmp_path: Path,
) -> None:
    async with (
        servers(2, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running) as gateway,
    ):
        assert min(await served_by(gateway, running, 10)) > 0
        running[0].faults = (SICK,)
        await until_ready(gateway, running[0], False)
        assert await served_by(gateway, running, 10) == [0, 10]
        running[0].faults = ()
        await until_ready(gateway, running[0], True)
        assert min(await served_by(gateway, running, 10)) > 0


async def test_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    async with (
        servers(2, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running) as gateway,
    ):
        running[0].faults = (FaultRule("refuse"),)
        assert (await served_by(gateway, running, 10))[1] == 10
        await until_ready(gateway, running[0], False)
        running[0].faults = ()
        await running[0].listening()
        await until_ready(gateway, running[0], True)
        assert min(await served_by(gateway, running, 10)) > 0


async def test_when_all_are_unhealthy_the_answer_is_503(tmp_path: Path) -> None:
    async with (
        servers(2, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running) as gateway,
    ):
        for server in running:
            server.faults = (SICK,)
        for server in running:
            await until_ready(gateway, server, False)
        status, headers, reply = await gateway.post(CHAT)
        assert (status, reply["error"]["code"]) == (503, "no_endpoint")
        assert headers["retry-after"]
        running[1].faults = ()
        await until_ready(gateway, running[1], True)
        assert await served_by(gateway, running, 4) == [0, 4]


async def test_a_server_without_a_health_path_serves(tmp_path: Path) -> None:
    """It answers 404, which is an answer."""
    async with (
        servers(1, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running) as gateway,
    ):
        running[0].faults = (FaultRule("error", "/health", status=404),)
        await until_checked(running[0], 4)
        assert await ready(gateway) == {running[0].address: True}
        assert await served_by(gateway, running, 2) == [2]


async def test_a_check_that_fails_now_and_then_changes_nothing(tmp_path: Path) -> None:
    async with (
        servers(1, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running) as gateway,
    ):
        seen = set()
        for _ in range(2):
            running[0].faults = (FaultRule("error", path="/health", status=500, count=2),)
            checks = health_checks(running[0])
            while health_checks(running[0]) < checks + 4:
                seen.add((await ready(gateway))[running[0].address])
                assert (await gateway.post(CHAT))[0] == 200
                await asyncio.sleep(0.05)
        assert seen == {True}


async def test_health_that_hangs_ends_in_unhealthy_and_running_streams_go_on(
    tmp_path: Path,
) -> None:
    async with (
        servers(1, model="llama", engine="llama-3-8b-h100") as running,
        gateway_of(tmp_path, running) as gateway,
    ):
        stream = await gateway.openai.chat.completions.create(
            model="llama",
            messages=[{"role": "user", "content": "Tell me all"}],
            max_tokens=10_000,
            stream=True,
        )
        chunks = aiter(stream)
        await anext(chunks)
        running[0].faults = (FaultRule("hang", path="/health"),)
        await until_ready(gateway, running[0], False)
        for _ in range(50):
            assert (await anext(chunks)).choices[0].delta.content
        await stream.close()
        running[0].faults = ()
        await until_ready(gateway, running[0], True)


POLICY = """
apiVersion: networking.gke.io/v1
kind: HealthCheckPolicy
metadata: {name: all}
spec:
  targetRef: {group: inference.networking.k8s.io, kind: InferencePool, name: all}
  default:
    checkIntervalSec: 1
    unhealthyThreshold: 2
    healthyThreshold: 3
    config: {type: HTTP, httpHealthCheck: {requestPath: /ping}}
---
"""


async def test_a_policy_says_what_is_asked_and_how_often_it_must_fail_or_pass(
    tmp_path: Path,
) -> None:
    async with servers(1, model="llama", engine="instant") as running:
        (server,) = running
        server.faults = (FaultRule("error", path="/health", status=500),)  # nobody asks there
        async with gateway_of(tmp_path, running, POLICY) as gateway:
            assert await ready(gateway) == {server.address: True}
            # One failure is too few (and 404 is one: a path that was asked for must be there) ...
            server.faults = (FaultRule("error", path="/ping", status=404, count=1),)
            checks, seen = server.requests.by_path["/ping"], set()
            while server.requests.by_path["/ping"] < checks + 4:
                seen |= set((await ready(gateway)).values())
                await asyncio.sleep(0.05)
            assert seen == {True}
            # ... two are enough (without the policy it takes three), then it takes three passes.
            checks = server.requests.by_path["/ping"]
            server.faults = (FaultRule("error", path="/ping", status=404, count=2),)
            await until_ready(gateway, server, False)
            await until_ready(gateway, server, True)
            assert server.requests.by_path["/ping"] >= checks + 2 + 3
            assert health_checks(server) == 0
            assert await served_by(gateway, running, 2) == [2]


def health_checks(server: SimServer) -> int:
    return server.requests.by_path["/health"]


async def until_checked(server: SimServer, times: int) -> None:
    wanted = health_checks(server) + times
    async with asyncio.timeout(30):
        while health_checks(server) < wanted:
            await asyncio.sleep(0.02)
