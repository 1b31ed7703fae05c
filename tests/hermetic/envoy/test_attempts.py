"""Every failed attempt reaches the picker, also those that another endpoint made good."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from .manifests import pool, route, server, to_pool, to_server, translated
from .picker import FAIL_CLOSE, PATIENT, picker

if TYPE_CHECKING:
    from inferway import _native

pytestmark = [pytest.mark.hermetic, pytest.mark.parametrize("settings", [PATIENT])]

CHAT = "/v1/chat/completions"
CONNECT, RESET, TIMEOUT, STATUS = 1, 2, 3, 4
WAIT_S = 20.0


def seen(faults: list[_native.Fault]) -> list[tuple[str, int, int, int]]:
    assert {one.pool for one in faults} <= {"default/p"}
    return [(one.endpoint, one.cause, one.status, one.retry_after_ms) for one in faults]


async def until(faults: list[_native.Fault], count: int) -> list[tuple[str, int, int, int]]:
    async with asyncio.timeout(WAIT_S):
        while len(faults) < count:
            await asyncio.sleep(0.005)
    return seen(faults)


async def test_failed_attempts_are_told_one_by_one(gateway, model_server) -> None:
    bad, good = await model_server("bad"), await model_server("good")
    gone = await model_server("gone")
    addresses = [f"127.0.0.1:{one.port}" for one in (bad, good)]
    first, second = addresses
    retried = "timeouts: {backendRequest: 1s}, retry: {attempts: 2, codes: [500, 503]}"
    model = translated(
        server("p", bad.port),
        server("p", good.port).replace("name: p,", "name: p2,"),
        server("p", gone.port).replace("name: p,", "name: p3,"),
        server("plain", bad.port),
        pool("p", annotations=FAIL_CLOSE),
        route(
            f"{{matches: [{{path: {{value: /plain}}}}], backendRefs: [{to_server('plain')}]}}",
            f"{{{retried}, backendRefs: [{to_pool('p')}]}}",
        ),
    ).model
    await gateway.serve(model)
    faults: list[_native.Fault] = []
    order = ",".join(addresses)

    async def ask(mood: str, path: str = CHAT, timeout_s: float = WAIT_S) -> int:
        bad.mood = mood
        body = {"model": "m", "messages": []}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        url = gateway.url + path
        async with gateway.client.post(url, json=body, timeout=timeout) as answer:
            await answer.read()
            return answer.status

    async with picker(gateway.run.pick_socket, lambda _pick: order, faults=faults):
        # Nothing of these is told; the first fault that is comes after them.
        for mood, status in (("", 200), ("/status/400", 400), ("/status/404", 404)):
            assert await ask(mood) == status
        assert await ask("/status/500", "/plain") == 500
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask("/break")
        with pytest.raises(TimeoutError):
            await ask("/silent", timeout_s=0.3)
        bad.release.set()

        assert await ask("/reset") == 200
        assert await until(faults, 1) == [(first, RESET, 0, 0)]
        assert await ask("/status/500") == 200, "the route asks for it"
        assert await ask("/status/504") == 504
        assert await ask("/status/429") == 429
        bad.refuses, bad.retry_after = True, "7"
        assert await ask("") == 200
        bad.refuses = False
        assert (await until(faults, 5))[1:] == [
            (first, STATUS, 500, 0),
            (first, STATUS, 504, 0),
            (first, STATUS, 429, 0),
            (first, STATUS, 503, 7_000),
        ]
        bad.release.clear()
        assert await ask("/silent") == 200
        assert (await until(faults, 6))[5:] == [(first, TIMEOUT, 0, 0)]
        bad.release.set()

        # All fail: each is told, the last one too.
        faults.clear()
        good.mood = "/status/500"
        order = f"{first},{second},127.0.0.1:{gone.port}"
        gone.mood = "/status/500"
        assert await ask("/reset") == 500
        assert [one[:2] for one in await until(faults, 3)] == [
            (first, RESET),
            (second, STATUS),
            (f"127.0.0.1:{gone.port}", STATUS),
        ]
        assert len(faults) == 3


async def test_a_refused_connection(gateway, model_server) -> None:
    good = await model_server("good")
    with_nobody = "127.0.0.1:1"
    model = translated(
        server("p", good.port),
        server("p", 1).replace("name: p,", "name: p2,"),
        pool("p", annotations=FAIL_CLOSE),
        route(f"{{backendRefs: [{to_pool('p')}]}}"),
    ).model
    await gateway.serve(model)
    faults: list[_native.Fault] = []
    order = f"{with_nobody},127.0.0.1:{good.port}"
    async with picker(gateway.run.pick_socket, lambda _pick: order, faults=faults):
        body = {"model": "m", "messages": []}
        async with gateway.client.post(gateway.url + CHAT, json=body) as answer:
            assert answer.status == 200
        assert await until(faults, 1) == [(with_nobody, CONNECT, 0, 0)]
