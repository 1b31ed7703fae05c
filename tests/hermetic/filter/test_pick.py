"""The filter `pick` in a real Envoy: what it asks, and what it does with the answer."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp
import pytest

from .fake_picker import Done, Open, Pick, endpoints, reject

if TYPE_CHECKING:
    from .conftest import World

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
NO_PRIORITY = -(2**31)


async def echo(
    world: World, body: dict[str, object], **headers: str
) -> dict[str, dict[str, str] | str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with world.client.post(CHAT, json=body, headers=named) as response:
        assert response.status == 200, await response.text()
        content: dict[str, dict[str, str] | str] = await response.json()
        return content


@pytest.mark.parametrize("place", [0, 1])
async def test_a_request_lands_where_the_picker_says(world: World, place: int) -> None:
    there = world.servers[place].address
    world.picker.script = lambda pick: endpoints(pick.stream, there)
    for _ in range(4):
        assert (await echo(world, {"model": "open"}))["served_by"] == there


async def test_the_first_known_endpoint_of_a_list_serves(world: World) -> None:
    there = world.servers[1].address
    world.picker.script = lambda pick: endpoints(pick.stream, f"127.0.0.1:1,{there}")
    assert (await echo(world, {"model": "open"}))["served_by"] == there
    assert (await world.picker.wait(Done)).endpoint == there


async def test_a_pick_says_what_the_request_says(world: World) -> None:
    body: dict[str, object] = {
        "model": "open-2",
        "stream": True,
        "priority": -3,
        "max_completion_tokens": 77,
        "messages": [{"role": "user", "content": "a" * 300}],
    }
    reply = await echo(
        world,
        body,
        x_gateway_inference_objective="batch",
        x_gateway_inference_fairness_id="tenant",
        x_session_id="s1",
        x_request_id="7a0e1c52-0000-4000-8000-000000000001",
    )
    pick = await world.picker.wait(Pick)
    assert (pick.objective, pick.fairness, pick.session) == ("batch", "tenant", "s1")
    assert (pick.streaming, pick.repeated) == (True, False)
    assert (pick.priority, pick.max_tokens, pick.kind) == (-3, 77, 1)
    assert pick.body_bytes == len(json.dumps(body))
    assert len(pick.hashes) == pick.prompt_bytes // 256 == 1
    headers = reply["headers"]
    assert isinstance(headers, dict)
    assert headers["x-request-id"] == pick.request_id
    assert headers["x-session-id"] == "s1"
    assert "x-gateway-inference-objective" not in headers
    assert "x-gateway-inference-fairness-id" not in headers


async def test_the_other_spelling_of_the_headers_counts_too(world: World) -> None:
    reply = await echo(
        world,
        {"model": "open"},
        x_llm_d_inference_objective="chat",
        x_llm_d_inference_fairness_id="t2",
    )
    pick = await world.picker.wait(Pick)
    assert (pick.objective, pick.fairness) == ("chat", "t2")
    assert (pick.priority, pick.max_tokens, pick.streaming) == (NO_PRIORITY, 0, False)
    assert not any("inference" in name for name in reply["headers"])


async def test_a_rejection_is_told_to_the_client(world: World) -> None:
    world.picker.script = lambda pick: reject(
        pick.stream, 429, 1500, "rate_limit_error", "overloaded", 'All "busy".', "saturated"
    )
    async with world.client.post(CHAT, json={"model": "open"}) as response:
        assert response.status == 429
        assert response.headers["retry-after"] == "2"
        assert response.headers["x-inferway-dropped-reason"] == "saturated"
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-request-id"] == (await world.picker.wait(Pick)).request_id
        assert await response.json() == {
            "error": {
                "message": 'All "busy".',
                "type": "rate_limit_error",
                "param": None,
                "code": "overloaded",
            }
        }
    done = await world.picker.wait(Done)
    assert (done.end, done.status, done.flags, done.endpoint) == (3, 429, 0, "")
    assert world.servers[0].requests == world.servers[1].requests == Counter()


async def test_a_rejection_without_hints_has_no_hint_headers(world: World) -> None:
    world.picker.script = lambda pick: reject(pick.stream, 503, 0, "server_error", "", "No.", "")
    async with world.client.post(CHAT, json={"model": "open"}) as response:
        assert response.status == 503
        assert "retry-after" not in response.headers
        assert "x-inferway-dropped-reason" not in response.headers
        assert (await response.json())["error"]["code"] is None


async def test_a_new_model_name_is_told_upstream(world: World) -> None:
    there = world.servers[0].address
    world.picker.script = lambda pick: endpoints(pick.stream, there, model="adapter-7")
    headers = (await echo(world, {"model": "open"}))["headers"]
    assert isinstance(headers, dict)
    assert headers["x-gateway-model-name"] == "adapter-7"


async def test_requests_without_a_body_are_picked_for(world: World) -> None:
    async with world.client.get("/v1/models?a=b") as response:
        assert (await response.json())["served_by"] == world.servers[0].address
    pick = await world.picker.wait(Pick)
    assert (pick.kind, pick.model, pick.body_bytes, pick.prompt_bytes) == (0, "", 0, 0)


async def test_a_weighted_backend_names_its_own_pool(world: World) -> None:
    await echo(world, {"model": "weighted"})
    assert (await world.picker.wait(Pick)).pool == "ns/weighted"


async def test_routes_without_a_pool_are_left_alone(world: World) -> None:
    headers = (await echo(world, {"model": "plain"}, x_gateway_inference_objective="o"))["headers"]
    assert isinstance(headers, dict)
    assert headers["x-gateway-inference-objective"] == "o"
    assert world.picker.of(Pick) == []


async def test_many_at_once_each_get_their_own_answer(world: World) -> None:
    turn = itertools.cycle(world.servers)
    chosen: dict[str, str] = {}

    def script(pick: Pick) -> bytes:
        chosen[pick.request_id] = next(turn).address
        return endpoints(pick.stream, chosen[pick.request_id])

    world.picker.script = script
    replies = await asyncio.gather(*(echo(world, {"model": f"open-{n}"}) for n in range(200)))
    for reply in replies:
        headers = reply["headers"]
        assert isinstance(headers, dict)
        assert reply["served_by"] == chosen[headers["x-request-id"]]
    await world.picker.wait(Done, 200)
    dones = world.picker.of(Done)
    assert len({done.stream for done in dones}) == len(dones) == 200
    assert {(done.end, done.status) for done in dones} == {(0, 200)}
    assert world.picker.of(Open) == []


async def test_answers_may_come_in_any_order(world: World) -> None:
    world.picker.script = lambda _: None
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(echo(world, {"model": f"open-{n}"})) for n in range(3)]
        await world.picker.wait(Pick, 3)
        places = {"open-0": 0, "open-1": 1, "open-2": 0}
        for pick in reversed(world.picker.of(Pick)):
            there = world.servers[places[pick.model]].address
            world.picker.send(endpoints(pick.stream, there))
    served = [one.result()["served_by"] for one in waiting]
    assert served == [world.servers[place].address for place in (0, 1, 0)]


async def test_a_client_that_leaves_ends_its_pick(world: World) -> None:
    world.picker.script = lambda _: None
    before = await world.gateway.counters()
    async with asyncio.TaskGroup() as tasks:
        leaving = tasks.create_task(echo(world, {"model": "open"}))
        pick = await world.picker.wait(Pick)
        leaving.cancel()
    done = await world.picker.wait(Done)
    assert (done.stream, done.end, done.status, done.flags) == (pick.stream, 2, 0, 0)
    # The answer comes late: it is dropped, and counted with a request after it (requests carry the
    # link's counts to Envoy; the first may be ahead of the late answer).
    world.picker.send(endpoints(pick.stream, world.servers[0].address))
    world.picker.script = world.everywhere
    name = "inferway_pick_late_answers_total"
    late = echoes = 0
    async with asyncio.timeout(10):
        while not late:
            await echo(world, {"model": "open"})
            echoes += 1
            late = (await world.gateway.counters())[name] - before[name]
    assert late == 1
    assert len(world.picker.of(Done)) <= 1 + echoes
    assert world.servers[0].requests[CHAT] == echoes


async def test_a_connection_survives_its_streams(world: World) -> None:
    """Keep-alive: many requests over one client connection, picks and rejections mixed."""
    there = world.servers[1].address

    def script(pick: Pick) -> bytes:
        if pick.model.endswith("no"):
            return reject(pick.stream, 429, 1000, "rate_limit_error", "x", "No.", "shed")
        return endpoints(pick.stream, there)

    world.picker.script = script
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(world.gateway.url, connector=connector) as client:
        statuses = []
        for number in range(20):
            model = "open-no" if number % 3 == 0 else "open"
            async with client.post(CHAT, json={"model": model}) as response:
                statuses.append(response.status)
    assert statuses == [429 if number % 3 == 0 else 200 for number in range(20)]
