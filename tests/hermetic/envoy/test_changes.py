"""Configuration changes while requests run: none fails, and a bad one changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from inferway.envoy.conversation import ProgrammingPhase
from inferway.envoy.messages import ResourceType, resource
from inferway.envoy.settings import EnvoySettings
from inferway.envoy.snapshot import ResourceSet
from inferway.routing.model import Route, RouteMatch

pytestmark = pytest.mark.hermetic


@contextlib.asynccontextmanager
async def load(gateway):
    """Requests one after the other on four connections; yields who answered, by count."""
    from collections import Counter

    answers: Counter[str] = Counter()
    ended = asyncio.Event()

    async def work() -> None:
        while not ended.is_set():
            answers.update(await gateway.servers("/", count=20, concurrency=1))

    async with asyncio.TaskGroup() as tasks:
        for _worker in range(4):
            tasks.create_task(work())
        try:
            yield answers
        finally:
            ended.set()


async def more(answers, name: str, count: int = 100) -> None:
    """Waits until `name` has answered `count` more requests."""
    goal = answers[name] + count
    async with asyncio.timeout(20):
        while answers[name] < goal:
            await asyncio.sleep(0.01)


async def test_weights_change_under_load(gateway, build, model_server) -> None:
    red, blue = await model_server("red"), await model_server("blue")

    def split(red_weight: int, blue_weight: int):
        targets = (build.to_pool("d/red", red_weight), build.to_pool("d/blue", blue_weight))
        return build.model(
            Route("r", RouteMatch(), targets),
            backends=(build.pool("d/red", red.port), build.pool("d/blue", blue.port)),
        )

    await gateway.serve(split(1, 0))
    async with load(gateway) as answers:
        await more(answers, "red")
        assert "blue" not in answers
        for weights in ((1, 1), (0, 1), (1, 0), (0, 1)):
            state = await gateway.offer(gateway.snapshot(split(*weights)))
            assert state.phase is ProgrammingPhase.PROGRAMMED
            await more(answers, "blue" if weights[1] else "red")
        before = red.requests
        await more(answers, "blue")
        assert red.requests == before
    assert set(answers) == {"red", "blue"}


async def test_pools_come_and_go_under_load(gateway, build, model_server) -> None:
    """A pool that replaces another: its cluster is there before, the old one goes after."""
    red, blue = await model_server("red"), await model_server("blue")

    def only(name: str, port: int):
        return build.model(
            Route("r", RouteMatch(), (build.to_pool(name),)), backends=(build.pool(name, port),)
        )

    await gateway.serve(only("d/red", red.port))
    async with load(gateway) as answers:
        for _round in range(3):
            await gateway.offer(gateway.snapshot(only("d/blue", blue.port)))
            await more(answers, "blue")
            await gateway.offer(gateway.snapshot(only("d/red", red.port)))
            await more(answers, "red")
    assert set(answers) == {"red", "blue"}
    _status, text = await gateway.envoy.admin.request("GET", "/clusters")
    assert "pool/d/red" in text
    assert "pool/d/blue" not in text


async def test_endpoints_change_under_load(gateway, build, model_server) -> None:
    first, second = await model_server("first"), await model_server("second")

    def with_ports(*ports: int):
        return build.model(
            Route("r", RouteMatch(), (build.to_pool("d/p"),)),
            backends=(build.pool("d/p", *ports),),
        )

    await gateway.serve(with_ports(first.port))
    async with load(gateway) as answers:
        await more(answers, "first")
        await gateway.offer(gateway.snapshot(with_ports(first.port, second.port)))
        await more(answers, "second")
        await gateway.offer(gateway.snapshot(with_ports(second.port)))
        await more(answers, "second")
        before = first.requests
        await more(answers, "second")
        assert first.requests == before
    assert set(answers) == {"first", "second"}


async def test_cluster_and_listener_settings_change_under_load(
    gateway, build, model_server
) -> None:
    """A changed cluster or listener is warmed beside the old one."""
    server = await model_server("a")
    model = build.model(
        Route("r", RouteMatch(), (build.to_pool("d/p"),)),
        backends=(build.pool("d/p", server.port),),
    )
    await gateway.serve(model)
    async with load(gateway) as answers:
        for idle_timeout_s in (100.0, 200.0):
            gateway.settings = EnvoySettings(
                idle_timeout_s=idle_timeout_s, connect_timeout_s=idle_timeout_s / 100
            )
            state = await gateway.offer(gateway.snapshot(model))
            assert state.phase is ProgrammingPhase.PROGRAMMED
            await more(answers, "a")
    assert set(answers) == {"a"}


async def test_rejection_keeps_the_last_good_state(gateway, build, model_server) -> None:
    server = await model_server("a")
    model = build.model(
        Route("r", RouteMatch(), (build.to_pool("d/p"),)),
        backends=(build.pool("d/p", server.port),),
    )
    await gateway.serve(model)
    good = gateway.snapshot(model)
    bad_route = resource(
        ResourceType.ROUTES,
        {
            "name": next(iter(good.routes.resources)),
            "virtual_hosts": [
                {
                    "name": "x",
                    "domains": ["*"],
                    "routes": [{"match": {"safe_regex": {"regex": "("}}}],
                }
            ],
        },
    )
    state = await gateway.offer(replace(good, routes=ResourceSet.of([bad_route])))
    assert state.phase is ProgrammingPhase.REJECTED
    (rejection,) = state.rejections
    assert rejection.type is ResourceType.ROUTES
    assert "(" in rejection.message
    assert len(rejection.message) > 20
    assert (await gateway.get("/"))[0] == 200

    # Envoy that starts anew gets the last good state, too.
    await gateway.envoy.stop()
    gateway.envoy = gateway.new_process()
    await gateway.envoy.start()
    await gateway.envoy.ready(timeout_s=20)
    await gateway.locate()
    assert (await gateway.get("/"))[0] == 200
    assert gateway.ads.state.phase is ProgrammingPhase.REJECTED

    assert (await gateway.offer(good)).phase is ProgrammingPhase.PROGRAMMED


async def test_control_restarts_under_load(gateway, build, model_server) -> None:
    """Envoy goes on without control, and takes the newest state from the next one."""
    red, blue = await model_server("red"), await model_server("blue")

    def served_by(name: str):
        return build.model(
            Route("r", RouteMatch(), (build.to_pool(name),)),
            backends=(build.pool("d/red", red.port), build.pool("d/blue", blue.port)),
        )

    await gateway.serve(served_by("d/red"))
    async with load(gateway) as answers:
        await gateway.ads.stop()
        await more(answers, "red")
        gateway.ads = gateway.new_ads()
        await gateway.ads.start(gateway.run.discovery_socket)
        state = await gateway.offer(gateway.snapshot(served_by("d/blue")))
        assert state.phase is ProgrammingPhase.PROGRAMMED
        await more(answers, "blue")
    assert set(answers) == {"red", "blue"}
    assert not gateway.lines, gateway.lines[0]
