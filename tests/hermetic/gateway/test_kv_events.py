"""A whole gateway learns from its servers' KV events what they evicted, cleared and lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from inferway.cli.demo.manifests import free_ports
from inferway.simulator.app import SimOptions, serve
from inferway.simulator.parameters import parameters_named

from .running import RunningGateway, running_gateway

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hermetic
MODEL = "sim-model"
# 40 blocks of 16 tokens, which are 2,560 bytes: about one of these prompts.
SMALL = replace(parameters_named("instant"), name="small", num_blocks=40, max_model_len=640)


def prompt(name: str, words: int = 480) -> dict[str, object]:
    content = f"{name}: " + "word " * (words - len(name) // 5)
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 2,
    }


def manifests(port: int, events_port: int, replay_port: int) -> str:
    server = {
        "apiVersion": "inferway.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": "one", "labels": {"app": "sim"}},
        "spec": {
            "addresses": [{"host": "127.0.0.1", "port": port}],
            "metricsPath": "/nothing",  # so that only events tell how much it holds
            "kvEvents": {"port": events_port, "replayPort": replay_port},
        },
    }
    pool = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "pool"},
        "spec": {"selector": {"matchLabels": {"app": "sim"}}, "targetPorts": [{"number": port}]},
    }
    return yaml.safe_dump_all([server, pool])


async def samples(gateway: RunningGateway) -> dict[str, float]:
    """The picker's metrics that this is about."""
    async with gateway.session.get(f"{gateway.admin}/metrics") as reply:
        text = await reply.text()
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "kv_" in sample.name or "prefix_index" in sample.name
    }


async def until(gateway: RunningGateway, name: str, least: float) -> None:
    async def holds() -> bool:
        return (await samples(gateway)).get(name, 0.0) >= least

    await gateway.until(f"{name} is {least}", holds)


class Server:
    """A simulated server that can be started anew at the same ports."""

    def __init__(self, options: SimOptions, tasks: asyncio.TaskGroup) -> None:
        self._options = options
        self._tasks = tasks
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        listening, self._stop = asyncio.Event(), asyncio.Event()
        self._running = self._tasks.create_task(
            serve(self._options, ready=lambda _: listening.set(), stop=self._stop)
        )
        await listening.wait()

    async def stop(self) -> None:
        self._stop.set()
        assert self._running is not None
        await self._running


async def test_evictions_clears_and_restarts_are_learnt(tmp_path: Path) -> None:
    port, events_port, replay_port = free_ports(3)
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "all.yaml").write_text(manifests(port, events_port, replay_port))
    options = SimOptions(
        model=MODEL,
        engine=SMALL,
        ports=(port,),
        kv_events_port=events_port,
        kv_replay_port=replay_port,
    )
    async with asyncio.TaskGroup() as tasks:
        server = Server(options, tasks)
        await server.start()
        async with running_gateway(folder, str(folder), models=(MODEL,)) as gateway:
            await until(gateway, "inferway_kv_event_publishers true", 1)
            assert (await gateway.post(prompt("first")))[0] == 200
            await until(gateway, "inferway_kv_event_prompts_total bound", 1)
            entries = (await samples(gateway))["inferway_prefix_index_blocks"]
            assert entries >= 8
            # The second does not fit beside the first: the engine evicts, and says so.
            assert (await gateway.post(prompt("second")))[0] == 200
            await until(gateway, "inferway_kv_event_prompts_total bound", 2)
            await until(gateway, "inferway_kv_event_evictions_total", 5)
            after = await samples(gateway)
            assert after["inferway_prefix_index_blocks"] < 2 * entries - 4
            async with gateway.session.post(f"http://127.0.0.1:{port}/sim/reset"):
                pass
            await until(gateway, "inferway_kv_events_total cleared", 1)
            assert (await samples(gateway))["inferway_prefix_index_blocks"] == 0
            assert (await gateway.post(prompt("third")))[0] == 200
            await until(gateway, "inferway_kv_event_prompts_total bound", 3)
            # Another process takes the place. Its numbers begin anew, and so does what it holds.
            await server.stop()
            await server.start()

            asked = 0

            async def restart_seen() -> bool:
                nonlocal asked
                asked += 1
                await gateway.post(prompt(f"after the restart {asked}"))
                await asyncio.sleep(0.5)  # a prompt is bound before the next one evicts it
                return (await samples(gateway))["inferway_kv_event_batches_total restart"] >= 1

            async def only_the_last_is_left() -> bool:
                found = await samples(gateway)
                bound = found["inferway_kv_event_prompts_total bound"]
                return bound >= 4 and found["inferway_prefix_index_blocks"] <= entries + 1

            await gateway.until("the restart is seen", restart_seen)
            await gateway.until("only the last prompt is left", only_the_last_is_left)
        await server.stop()
