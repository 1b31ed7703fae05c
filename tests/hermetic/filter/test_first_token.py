"""A server whose first token does not come in time: another one gets the request, unseen."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from .fake_picker import Done, Pick, endpoints

if TYPE_CHECKING:
    from .conftest import World

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
COMPLETE, SERVER_FAILED = 0, 1
FIRST_TOKEN = 3
MCP = [{"type": "mcp", "server_url": "http://tools"}]


def hasty(world: World, deadline_ms: int = 100) -> None:
    """The picker prefers the first server, as long as it is not excluded."""
    first, second = (server.address for server in world.servers)

    def script(pick: Pick) -> bytes:
        chosen = second if first in pick.exclude.split(",") else first
        return endpoints(pick.stream, chosen, ttft_deadline_ms=deadline_ms)

    world.picker.script = script


async def stream(world: World, model: str, more: dict[str, object], **headers: str) -> bytes:
    body = {"model": model, "stream": True, **more}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with world.client.post(
        CHAT, json=body, headers={"x-behave": "stream", **named}
    ) as response:
        assert response.status == 200
        return await response.read()


@pytest.mark.parametrize("size", [10, 700_000])
async def test_another_server_gets_the_whole_request(world: World, size: int) -> None:
    hasty(world)
    slow, fast = world.servers
    slow.slow = True
    more: dict[str, object] = {"messages": [{"role": "user", "content": "x" * size}]}
    content = await stream(world, "kept", more, x_gateway_inference_objective="o", x_session_id="s")
    assert content.count(b"data: ") == 3
    assert content.endswith(b"data: [DONE]\n\n")
    first, again = world.picker.of(Pick)
    assert (first.exclude, again.exclude) == ("", slow.address)
    assert (again.objective, again.session, again.request_id) == ("o", "s", first.request_id)
    assert again.received_ns == first.received_ns
    late, done = await world.picker.wait(Done, 1), await world.picker.wait(Done, 2)
    assert (late.stream, late.end, late.fault) == (first.stream, SERVER_FAILED, FIRST_TOKEN)
    assert (late.endpoint, late.attempts) == (slow.address, 1)
    assert (done.stream, done.end, done.fault) == (again.stream, COMPLETE, 0)
    assert (done.endpoint, done.finish) == (fast.address, 1)
    assert done.ttft_us >= 100_000
    assert slow.bodies[-1] == fast.bodies[-1]
    asked = json.loads(fast.bodies[-1])
    assert asked["messages"] == more["messages"]
    assert asked["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("model", "more"), [("kept", {"tools": MCP}), ("kept", {"stream": False}), ("open", {})]
)
async def test_what_must_or_can_not_be_sent_twice_waits(
    world: World, model: str, more: dict[str, object]
) -> None:
    """Tools of the server; no stream; a body that Envoy has not kept."""
    hasty(world, deadline_ms=20)
    slow = world.servers[0]
    slow.slow = True
    async with asyncio.TaskGroup() as tasks:
        request = tasks.create_task(stream(world, model, more))
        await world.picker.wait(Pick)
        done, _ = await asyncio.wait([request], timeout=0.3)
        assert not done
        slow.release.set()
    assert request.result().endswith(b"data: [DONE]\n\n")
    assert len(world.picker.of(Pick)) == 1


async def test_a_token_in_time_ends_the_deadline(world: World) -> None:
    hasty(world, deadline_ms=1_000)
    async with asyncio.TaskGroup() as tasks:
        request = tasks.create_task(stream(world, "kept", {}, x_hold="1"))
        await world.servers[0].streaming.wait()
        await asyncio.wait([request], timeout=1.2)
        world.servers[0].release.set()
    assert request.result().endswith(b"data: [DONE]\n\n")
    assert len(world.picker.of(Pick)) == 1


async def test_the_last_server_may_take_its_time(world: World) -> None:
    """When all are slow, the one that has the request last keeps it."""
    hasty(world, deadline_ms=50)
    for server in world.servers:
        server.slow = True
    async with asyncio.TaskGroup() as tasks:
        request = tasks.create_task(stream(world, "kept", {}))
        await world.picker.wait(Pick, 3)
        await asyncio.wait([request], timeout=0.3)
        assert len(world.picker.of(Pick)) == 3
        for server in world.servers:
            server.release.set()
    assert request.result().endswith(b"data: [DONE]\n\n")


async def test_many_at_once(world: World) -> None:
    hasty(world, deadline_ms=30)
    world.servers[0].slow = True
    for _ in range(3):
        contents = await asyncio.gather(*(stream(world, "kept", {}) for _ in range(100)))
        assert all(content.endswith(b"data: [DONE]\n\n") for content in contents)
    await world.picker.wait(Done, 600)
