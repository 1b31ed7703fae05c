"""The link to the picker under faults: absent, hung, killed, returned; both ways to fail."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from inferway.envoy.binary import find_envoy

from .fake_picker import Done, First, Hello, Open, Pick, endpoints
from .gateway import ALIVE_MS_MIN, HOLD_MS, bootstrap, filter_library, run_gateway

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from .conftest import World

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
ALIVE_MS = 250
# Upper bounds are far above what is expected: the machine may be busy.
SLACK_MS = 2_000


async def post(world: World, model: str, **headers: str) -> tuple[int, str | None, bytes]:
    """Status, retry-after and body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with world.client.post(CHAT, json={"model": model}, headers=named) as response:
        return response.status, response.headers.get("retry-after"), await response.read()


async def timed_ms(
    request: Awaitable[tuple[int, str | None, bytes]],
) -> tuple[float, tuple[int, str | None, bytes]]:
    start = time.monotonic()
    result = await request
    return (time.monotonic() - start) * 1000, result


async def until_down(world: World) -> None:
    """The filter has noticed that the picker is gone: requests that fail open do not wait."""
    async with asyncio.timeout(20):
        while (await timed_ms(post(world, "open-probe")))[0] > ALIVE_MS / 2:
            pass


async def test_without_a_picker_open_pools_go_on_and_closed_pools_refuse(world: World) -> None:
    await world.picker.stop()
    before = await world.gateway.counters()
    for _ in range(3):
        status, _, body = await post(world, "open")
        assert status == 200
        assert "x-gateway-destination-endpoint" not in json.loads(body)["headers"]

    elapsed_ms, (status, retry_after, body) = await timed_ms(post(world, "closed"))
    assert (status, retry_after) == (503, "1")
    assert json.loads(body)["error"]["code"] == "endpoint_picker_unavailable"
    assert HOLD_MS <= elapsed_ms < HOLD_MS + SLACK_MS
    after = await world.gateway.counters()
    failed = {name: after[name] - before[name] for name in after}
    assert failed["inferway_pick_fail_open_total"] == 3
    assert failed["inferway_pick_fail_close_total"] == 1


async def test_a_held_request_is_served_when_the_picker_returns(world: World) -> None:
    await world.picker.stop()
    await until_down(world)
    async with asyncio.TaskGroup() as tasks:
        held = tasks.create_task(post(world, "closed-1"))
        await asyncio.sleep(HOLD_MS / 10_000)
        await world.restart_picker()
    pick = await world.picker.wait(Pick)
    assert (pick.model, pick.repeated) == ("closed-1", True)
    assert held.result()[0] == 200
    assert (await world.picker.wait(Done)).stream == pick.stream


async def test_a_picker_that_dies_during_a_pick(world: World) -> None:
    world.picker.script = lambda _: None
    async with asyncio.TaskGroup() as tasks:
        open_one = tasks.create_task(timed_ms(post(world, "open-1")))
        closed_one = tasks.create_task(post(world, "closed-1"))
        await world.picker.wait(Pick, 2)
        await world.picker.stop()
        elapsed_ms, (status, _, body) = await open_one
        assert status == 200
        assert "x-gateway-destination-endpoint" not in json.loads(body)["headers"]
        assert elapsed_ms < SLACK_MS
        await world.restart_picker()
    # The one that was held is asked for again, on the new connection.
    pick = await world.picker.wait(Pick)
    assert (pick.model, pick.repeated) == ("closed-1", True)
    assert closed_one.result()[0] == 200
    assert (await world.picker.wait(Done)).end == 0
    # The other one had ended before the picker came back.
    assert world.picker.of(Open) == []


async def test_a_hung_picker_delays_an_open_pool_once(world: World) -> None:
    before, connections = await world.gateway.counters(), world.picker.connections
    world.picker.hang()
    elapsed_ms, (status, _, _) = await timed_ms(post(world, "open-1"))
    assert status == 200
    assert elapsed_ms < ALIVE_MS + SLACK_MS
    # Now the link is known to be down: nobody waits.
    await until_down(world)
    elapsed_ms, (status, retry_after, _) = await timed_ms(post(world, "closed-1"))
    assert (status, retry_after) == (503, "1")
    assert elapsed_ms < HOLD_MS + SLACK_MS

    world.picker.resume()
    done = await world.picker.wait(Done)
    picks = world.picker.of(Pick)
    # It saw the first pick and its end; its answer came too late. The others never reached it.
    assert [(pick.model, pick.stream) for pick in picks] == [("open-1", done.stream)]
    await world.until_up()
    after = await world.gateway.counters()
    assert after["inferway_pick_fail_open_total"] - before["inferway_pick_fail_open_total"] >= 2
    late = "inferway_pick_late_answers_total"
    assert after[late] - before[late] == 1
    assert world.picker.connections == connections


async def test_a_hung_picker_that_wakes_answers_what_was_held(world: World) -> None:
    world.picker.hang()
    await until_down(world)
    async with asyncio.TaskGroup() as tasks:
        held = tasks.create_task(post(world, "closed-9"))
        await asyncio.sleep(HOLD_MS / 10_000)
        world.picker.resume()
    assert held.result()[0] == 200
    assert [pick.repeated for pick in world.picker.of(Pick) if pick.model == "closed-9"] == [True]


async def test_running_streams_are_told_to_a_new_picker(world: World) -> None:
    first, second = world.servers
    world.picker.script = lambda pick: endpoints(
        pick.stream, f"{first.address},{second.address}", uncached=321, context=654
    )
    headers = {"x-behave": "stream", "x-hold": "1"}
    async with (
        world.client.post(CHAT, json={"model": "open-a"}, headers=headers) as streaming,
        asyncio.TaskGroup() as tasks,
    ):
        thinking = tasks.create_task(post(world, "closed-b", x_behave="wait"))
        await world.picker.wait(First)
        await world.picker.wait(Pick, 2)
        async with asyncio.timeout(20):
            while sum(first.requests.values()) < 2:
                await asyncio.sleep(0.005)
        streams = {pick.model: pick.stream for pick in world.picker.of(Pick)}
        await world.picker.stop()
        await until_down(world)
        unplaced = tasks.create_task(post(world, "open-c", x_behave="wait"))
        async with asyncio.timeout(20):
            while sum(first.requests.values()) + sum(second.requests.values()) < 4:
                await asyncio.sleep(0.005)
        await world.restart_picker()
        await world.picker.wait(Open, 3)
        opens = {one.model: one for one in world.picker.of(Open)}
        assert set(opens) == {"open-a", "closed-b", "open-c"}
        for model, phase in (("open-a", 1), ("closed-b", 0)):
            one = opens[model]
            assert (one.stream, one.phase) == (streams[model], phase)
            assert (one.charged_uncached, one.charged_context) == (321, 654)
            assert one.endpoint == first.address
        assert opens["open-a"].pool == "ns/open"
        assert opens["closed-b"].pool == "ns/closed"
        assert (opens["open-c"].charged_uncached, opens["open-c"].charged_context) == (0, 0)
        assert (opens["open-c"].endpoint, opens["open-c"].phase) == ("", 0)

        first.release.set()
        second.release.set()
        await streaming.read()
    assert (thinking.result()[0], unplaced.result()[0]) == (200, 200)
    await world.picker.wait(Done, 3)
    dones = {done.stream: done for done in world.picker.of(Done)}
    assert set(dones) == {one.stream for one in opens.values()}
    assert {done.end for done in dones.values()} == {0}
    assert dones[opens["open-c"].stream].endpoint in {first.address, second.address}


async def test_a_filter_keeps_its_name_across_connections(world: World) -> None:
    await world.restart_picker()
    first = await world.picker.wait(Hello)
    await world.until_up()
    stream = (await world.picker.wait(Pick)).stream
    await world.picker.wait(Done)
    await world.restart_picker()
    second = await world.picker.wait(Hello)
    assert (first.magic, first.major, first.minor) == (0x59574649, 1, 1)
    assert first.filter_id == second.filter_id != 0
    await world.until_up()
    assert (await world.picker.wait(Pick)).stream > stream


async def test_a_picker_that_hangs_when_asked_to_connect_is_found_again(world: World) -> None:
    """A connection that is made but never welcomed does not count as up."""
    await world.picker.stop()
    world.picker.hang()
    await world.picker.start()
    elapsed_ms, (status, _, _) = await timed_ms(post(world, "open"))
    assert (status, elapsed_ms < SLACK_MS) == (200, True)
    world.picker.resume()
    await world.picker.wait(Hello)
    await world.until_up()


async def test_several_workers_share_one_link(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("workers")
    library = filter_library()
    assert library is not None
    await world.picker.stop()
    old_path, world.picker.path = world.picker.path, directory / "pick.sock"
    world.picker.frames.clear()
    connections = world.picker.connections
    await world.picker.start()
    config = bootstrap(directory, [server.port for server in world.servers], 1)
    try:
        async with run_gateway(directory, library, config, concurrency=2) as gateway:
            await world.picker.wait(Hello)

            async def one(number: int) -> int:
                # A connection each, so that both workers get some.
                async with (
                    aiohttp.ClientSession(gateway.url) as client,
                    client.post(CHAT, json={"model": f"open-{number}"}) as response,
                ):
                    return response.status

            assert set(await asyncio.gather(*(one(number) for number in range(60)))) == {200}
            await world.picker.wait(Done, 60)
            assert len({done.stream for done in world.picker.of(Done)}) == 60
            # Both listeners have the filter configured; they share the connection.
            assert world.picker.connections - connections == 1
    finally:
        await world.picker.stop()
        world.picker.path = old_path


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, None),
        ({"socket": ""}, "socket: not 1"),
        ({"sockets": "/x"}, "unknown field `sockets`"),
    ],
)
async def test_configurations_are_validated_without_a_link(
    world: World, tmp_path: Path, change: dict[str, str], complaint: str | None
) -> None:
    library = filter_library()
    assert library is not None
    (tmp_path / "libinferway_filter.so").symlink_to(library.resolve())
    text = json.dumps(bootstrap(world.picker.path.parent, [1, 2], 3))
    pick = json.dumps(
        {
            "socket": str(world.picker.path),
            "hold_ms": HOLD_MS,
            "alive_ms_min": ALIVE_MS_MIN,
            "relay": "relay",
        }
    )
    assert json.dumps(pick) in text
    changed = json.dumps(json.loads(pick) | change)
    text = text.replace(json.dumps(pick), json.dumps(changed))
    (tmp_path / "envoy.json").write_text(text)
    connections = world.picker.connections
    command = [
        find_envoy(),
        "--mode",
        "validate",
        "--use-dynamic-base-id",
        "-c",
        tmp_path / "envoy.json",
    ]
    env = {"ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(tmp_path)}
    run = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert (run.returncode == 0) == (complaint is None), run.stderr
    if complaint is not None:
        assert complaint in run.stderr
    assert world.picker.connections == connections
