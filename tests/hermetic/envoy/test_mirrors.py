"""Mirrored requests: who gets them, and that no client can tell."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from inferway.envoy.conversation import ProgrammingPhase
from tests.binomial import fits_share

from .manifests import pool, route, server, to_pool, to_server, translated
from .picker import FAIL_CLOSE, PATIENT, picker

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.routing.model import RoutingModel

pytestmark = pytest.mark.hermetic

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi" * 500}]}
GATEWAY_TIMEOUT_S = 60.0


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(GATEWAY_TIMEOUT_S):
        while not holds():
            await asyncio.sleep(0.01)


async def until_copies_are_done(gateway) -> None:
    """A copy begins before its original is answered; none is under way any more."""
    async with asyncio.timeout(GATEWAY_TIMEOUT_S):
        while True:
            _status, text = await gateway.envoy.admin.request(
                "GET", "/stats", filter=r"^cluster\.mirror/.*\.upstream_rq_active$", format="json"
            )
            under_way = [one["value"] for one in json.loads(text)["stats"] if "value" in one]
            assert under_way, text
            if not any(under_way):
                return
            await asyncio.sleep(0.01)


def mirror(target: str, share: str = "") -> str:
    return f"{{type: RequestMirror, requestMirror: {{backendRef: {target}{share}}}}}"


async def ask(gateway, path: str = "/v1/chat/completions", **body: object) -> str:
    async with gateway.client.post(gateway.url + path, json={**BODY, **body}) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["server"])


@pytest.mark.parametrize("settings", [PATIENT])
async def test_a_copy_is_picked_for_its_own_pool(gateway, model_server) -> None:
    """Two servers in each pool: the copy goes where the picker says for the mirror's pool."""
    live = [await model_server(f"live-{n}") for n in range(2)]
    test = [await model_server(f"test-{n}") for n in range(2)]
    servers = [server("live", one.port) for one in live] + [
        server("test", one.port) for one in test
    ]
    named = [
        text.replace("name: live,", f"name: live-{n},").replace("name: test,", f"name: test-{n},")
        for n, text in enumerate(servers)
    ]
    await gateway.serve(
        translated(
            *named,
            pool("live", annotations=FAIL_CLOSE),
            pool("test", annotations=FAIL_CLOSE),
            route(f"{{filters: [{mirror(to_pool('test'))}], backendRefs: [{to_pool('live')}]}}"),
        ).model
    )
    chosen = {"default/live": live[1], "default/test": test[0]}
    async with picker(
        gateway.run.pick_socket, lambda pick: f"127.0.0.1:{chosen[pick.pool].port}"
    ) as picks:
        for number in range(10):
            assert await ask(gateway, nr=number) == "live-1"
        await until(lambda: test[0].requests == 10)
        assert {pick.pool for pick in picks} == set(chosen)
        assert len(picks) == 20
    assert [one.requests for one in (*live, *test)] == [0, 10, 10, 0]
    original, copy = live[1].seen[-1], test[0].seen[-1]
    assert copy.body == original.body == json.dumps({**BODY, "nr": 9}).encode()
    assert copy.path == original.path
    for name in ("x-request-id", "host", "x-gateway-model-name", "content-type"):
        assert copy.headers[name] == original.headers[name], name


async def test_shares_are_kept(gateway, model_server) -> None:
    """By percent and by fraction, on a rule and on one backend of two."""
    names = ("a", "b", "tenth", "third", "own")
    servers = {name: await model_server(name) for name in names}
    tenth = mirror(to_server("tenth"), ", percent: 10")
    third = mirror(to_server("third"), ", fraction: {numerator: 1, denominator: 3}")
    own = f", weight: 3, filters: [{mirror(to_server('own'), ', percent: 50')}]"
    none = mirror(to_server("own"), ", percent: 0")
    await gateway.serve(
        translated(
            *(server(name, one.port) for name, one in servers.items()),
            route(
                f"{{filters: [{tenth}, {third}, {none}], backendRefs: [{to_server('a')}]}}",
                f"""{{matches: [{{path: {{value: /split}}}}],
                  backendRefs: [{to_server("a")}, {to_server("b", own)}]}}""",
            ),
        ).model
    )
    count = 1200
    assert set(await gateway.servers("/", count=count)) == {"a"}
    answers = await gateway.servers("/split", count=count)
    shares = {"tenth": 0.1, "third": 1 / 3, "own": 0.75 * 0.5}
    await until_copies_are_done(gateway)
    for name, share in shares.items():
        assert fits_share(servers[name].requests, share, of=count), name
    assert fits_share(answers["b"], 0.75, of=count), answers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/upload"])
async def test_no_client_can_tell_how_a_mirror_is(gateway, model_server, path: str) -> None:
    """Dead, hung, slow, failing, breaking and missing mirrors at once, small and large bodies."""
    live, slow, failing, breaking = [
        await model_server(name) for name in ("live", "slow", "failing", "breaking")
    ]
    failing.refuses = True
    slow.mood, breaking.mood = "/silent", "/reset"
    with socket.socket() as dead, socket.socket() as hung:
        dead.bind(("127.0.0.1", 0))
        hung.bind(("127.0.0.1", 0))
        hung.listen(64)  # connections are taken, and nothing is ever read
        ports = {
            "live": live.port,
            "slow": slow.port,
            "failing": failing.port,
            "breaking": breaking.port,
            "dead": dead.getsockname()[1],
            "hung": hung.getsockname()[1],
        }
        mirrors = ", ".join(mirror(to_pool(name)) for name in ports if name != "live")
        mirrors += f", {mirror(to_server('hung'))}, {mirror(to_server('missing'))}"
        translation = translated(
            *(server(name, port) + "\n---\n" + pool(name) for name, port in ports.items()),
            route(f"{{filters: [{mirrors}], backendRefs: [{to_pool('live')}]}}"),
        )
        await gateway.serve(translation.model)
        async with picker(
            gateway.run.pick_socket,
            lambda pick: f"127.0.0.1:{ports[pick.pool.removeprefix('default/')]}",
        ):
            started = time.monotonic()
            for size in (10, 100, 20_000_000, 10, 10):
                data = json.dumps({**BODY, "more": "x" * size}).encode()
                kind = "application/json" if path.startswith("/v1") else "application/octet-stream"
                headers = {"content-type": kind}
                async with gateway.client.post(
                    gateway.url + path, data=io.BytesIO(data), headers=headers
                ) as answer:
                    assert answer.status == 200, await answer.text()
                    assert (await answer.json())["bytes"] == len(data)
            # Nothing was waited for: the slow one answers only at the end of the test.
            assert time.monotonic() - started < GATEWAY_TIMEOUT_S / 2
            await until(lambda: min(one.requests for one in (slow, failing, breaking)) >= 5)


async def test_mirrors_come_and_go_under_load(gateway, model_server) -> None:
    """No request fails while a mirror is added, changed and removed; copies follow."""
    live, test = await model_server("live"), await model_server("test")
    found: list[int] = []
    stopped = asyncio.Event()

    def manifests(filters: str) -> RoutingModel:
        return translated(
            server("live", live.port),
            server("test", test.port),
            route(f"{{filters: [{filters}], backendRefs: [{to_server('live')}]}}"),
        ).model

    async def load() -> None:
        while not stopped.is_set():
            status, _text = await gateway.get("/")
            found.append(status)

    one_listener = manifests("")
    await gateway.serve(one_listener)
    async with asyncio.TaskGroup() as tasks:
        for _client in range(4):
            tasks.create_task(load())
        for number in range(6):
            filters = mirror(to_server("test"), f", percent: {100 - number}")
            changed = manifests(filters if number % 2 == 0 else "")
            # On the port that is being asked already.
            listeners = (replace(changed.listeners[0], port=one_listener.listeners[0].port),)
            state = await gateway.offer(gateway.snapshot(replace(changed, listeners=listeners)))
            assert state.phase is ProgrammingPhase.PROGRAMMED, state.rejections
            before = test.requests
            if number % 2 == 0:
                await until(lambda before=before: test.requests > before + 20)
        stopped.set()
    assert set(found) == {200}
