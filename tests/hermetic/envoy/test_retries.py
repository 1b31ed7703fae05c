"""Timeouts and retries of routes: how often, for what, how long, and never twice to a client."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from .manifests import pool, route, server, to_pool, to_server, translated
from .picker import FAIL_CLOSE, PATIENT

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.hermetic


async def serve(gateway, one, *rules: str) -> None:
    await gateway.serve(translated(server("a", one.port), route(*rules)).model)


def rule(path: str, more: str) -> str:
    return f"{{matches: [{{path: {{value: {path}}}}}], {more}, backendRefs: [{to_server('a')}]}}"


async def tries(gateway, one, path: str, **request: Any) -> tuple[int, int]:
    """Status of one request, and how often the server saw it."""
    before = one.requests
    async with gateway.client.request("GET", gateway.url + path, **request) as answer:
        await answer.read()
        return answer.status, one.requests - before


async def test_attempts_and_codes(gateway, model_server) -> None:
    one = await model_server("a")
    await serve(
        gateway,
        one,
        rule("/status/418", "retry: {attempts: 3, codes: [418, 500]}"),
        rule("/status/500", "retry: {attempts: 0, codes: [500]}"),
        rule("/status/503", "retry: {codes: [500]}"),
        rule("/status/502", "retry: {attempts: 1}"),
        rule("/status", "timeouts: {request: 20s}"),
        rule("/reset", "retry: {attempts: 1, codes: [500]}"),
    )
    one.mood = ""
    assert await tries(gateway, one, "/status/418") == (418, 4)
    assert await tries(gateway, one, "/status/500") == (500, 1), "0: no retry at all"
    assert await tries(gateway, one, "/status/503") == (503, 1), "only the codes that are named"
    assert await tries(gateway, one, "/status/502") == (502, 1), "our own codes: 503"
    assert await tries(gateway, one, "/status/504") == (504, 1)
    assert await tries(gateway, one, "/reset") == (502, 2), "broken connections always"


async def test_backoff_spreads_the_tries(gateway, model_server) -> None:
    one = await model_server("a")
    await serve(gateway, one, rule("/", "retry: {attempts: 6, codes: [500], backoff: 200ms}"))
    started = time.monotonic()
    assert await tries(gateway, one, "/status/500") == (500, 7)
    # Six waits, each uniform below 0.2, 0.4, 0.8, 1.6, 2, 2 s: all but never below 0.5 s together.
    assert time.monotonic() - started > 0.5


async def test_each_try_has_its_time_and_all_together_too(gateway, model_server) -> None:
    one = await model_server("a")
    await serve(
        gateway,
        one,
        rule("/a", "timeouts: {backendRequest: 200ms}, retry: {attempts: 2}"),
        rule("/b", "timeouts: {request: 2s, backendRequest: 200ms}, retry: {attempts: 50}"),
        rule("/c", "timeouts: {request: 0s, backendRequest: 0s}"),
    )
    one.mood = "/silent"
    assert await tries(gateway, one, "/a") == (504, 3)
    started = time.monotonic()
    status, seen = await tries(gateway, one, "/b")
    assert status == 504
    assert 2 <= seen < 50
    assert time.monotonic() - started >= 1.9
    async with asyncio.TaskGroup() as tasks:
        endless = tasks.create_task(tries(gateway, one, "/c"))
        await asyncio.sleep(0.7)
        assert not endless.done(), "0s is no limit"
        one.release.set()
    assert endless.result()[0] == 200


async def test_nothing_is_tried_again_once_the_answer_has_begun(gateway, model_server) -> None:
    one = await model_server("a")
    await serve(
        gateway,
        one,
        rule("/", "timeouts: {backendRequest: 300ms}, retry: {attempts: 3, codes: [500]}"),
        rule("/cut", "timeouts: {request: 700ms}, retry: {attempts: 3, codes: [500]}"),
    )
    one.mood = "/break"
    with pytest.raises(aiohttp.ClientPayloadError):
        await tries(gateway, one, "/x")
    assert one.requests == 1
    one.mood = "/slow"
    async with gateway.client.get(gateway.url + "/x") as answer:
        assert await answer.content.readline() == b"data: begin\n"
        await asyncio.sleep(0.6)  # longer than one try may wait for its first byte
        one.release.set()
        assert b"data: end" in await answer.read()
    assert one.requests == 2
    one.release.clear()
    async with gateway.client.get(gateway.url + "/cut") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert one.requests == 3


@pytest.mark.parametrize("settings", [PATIENT])
async def test_waiting_for_a_pick_is_part_of_the_request(gateway, model_server) -> None:
    """Nobody picks, and the pool fails closed: the route's time ends the wait."""
    one = await model_server("a")
    closed = pool("p", annotations=FAIL_CLOSE)
    timed = f"{{timeouts: {{request: 400ms}}, backendRefs: [{to_pool('p')}]}}"
    await gateway.serve(translated(server("p", one.port), closed, route(timed)).model)
    body = {"model": "m", "messages": []}
    started = time.monotonic()
    async with gateway.client.post(gateway.url + "/v1/chat/completions", json=body) as answer:
        assert answer.status == 504
        assert (await answer.json())["error"]["code"] == "request_timeout"
    assert 0.3 < time.monotonic() - started < 30
    assert one.requests == 0
