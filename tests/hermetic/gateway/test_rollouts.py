"""The three roll-outs of the product pages, forward and back under load; faulty versions; people
who edit; control that is killed.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from inferway.simulator.faults import FaultRule

from .rolling import check_shares, load, rollout, watch
from .running import command, pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.simulator.server import SimServer

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

ROUTE = """\
# Who serves chat requests.
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: routes-to-llm
spec:
  parentRefs: [{{name: inferway}}]
  rules:
  - backendRefs:
    - name: {old}
      kind: InferencePool
      group: inference.networking.k8s.io
      weight: 100  # the nodes we have
    - {{name: {new}, kind: InferencePool, group: inference.networking.k8s.io, weight: 0}} # to come
"""
FAST = ("--steps", "10,50,100", "--interval", "1s", "--interval-max", "60s")
GATES = ("--min-samples", "20", "--gate", "ErrorRate=+1%", "--gate", "TTFT.p90=+400%")


def write_pools(folder: Path, running: list[SimServer], *, old: str, new: str) -> Path:
    """A pool of one server each, and the route; its file."""
    folder.mkdir()
    (folder / "old.yaml").write_text(pool_manifest(old) + server_manifest(running[0], old))
    (folder / "new.yaml").write_text(pool_manifest(new) + server_manifest(running[1], new))
    route = folder / "route.yaml"
    route.write_text(ROUTE.format(old=old, new=new))
    return route


def route_with(weights: tuple[int, int], *, old: str, new: str) -> str:
    text = ROUTE.format(old=old, new=new)
    return text.replace("weight: 100 ", f"weight: {weights[0]} ").replace(
        "weight: 0}", f"weight: {weights[1]}}}"
    )


async def long_stream(gateway: RunningGateway, model: str) -> str:
    """A stream that lasts for some ten seconds, to its end."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Tell a long story"}],
        "max_tokens": 1200,
        "stream": True,
    }
    async with gateway.session.post(f"{gateway.url}/v1/chat/completions", json=body) as reply:
        assert reply.status == 200
        return await reply.text()


async def test_node_rollout_forward_and_back_while_the_old_pool_drains(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    async with servers(2, model="llama") as running:
        route = write_pools(folder, running, old="llm", new="llm-new")
        old, new = (one.name for one in running)
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            await gateway.until("both pools are known", lambda: pools_serve(gateway, "llama", 2))
            async with load(gateway, "llama") as clients, asyncio.TaskGroup() as tasks:
                stream = tasks.create_task(long_stream(gateway, "llama"))
                await rollout(
                    *("node", "start", "routes-to-llm", "--from", "llm", "--to", "llm-new"),
                    *(*FAST, *GATES),
                    gateway=gateway,
                )
                forward = await watch(gateway, "llm-new", "Completed")
                assert route.read_text() == route_with((0, 100), old="llm", new="llm-new")
                (folder / "old.yaml").write_text(pool_manifest("llm"))  # the endpoint goes
                assert (await stream).rstrip().endswith("data: [DONE]"), "it survives"
                (folder / "old.yaml").write_text(
                    pool_manifest("llm") + server_manifest(running[0], "llm")
                )
                await gateway.until(
                    "the old pool serves again", lambda: pools_serve(gateway, "llama", 2)
                )
                await rollout("abort", "llm-new", gateway=gateway)
                back = await watch(gateway, "llm-new", "RolledBack")
                settled = len(clients.answers)
                while len(clients.answers) < settled + 100:
                    await asyncio.sleep(0.05)
            assert clients.errors == []
            check_shares(clients, forward, new)
            assert route.read_text() == route_with((100, 0), old="llm", new="llm-new")
            assert {one.version for one in clients.answers[-50:]} == {old}
            events = [entry["event"] for entry in back.status["history"]]
            assert events == ["Started", "Stepped", "Stepped", "Completed", "RolledBack"]
            await check_what_people_see(gateway)


async def pools_serve(gateway: RunningGateway, model: str, count: int) -> bool:
    """Whether so many endpoints are known to serve a model, and all is in force."""
    status = await gateway.status()
    serving = [
        one for pool in status["pools"] for one in pool["endpoints"] if model in one["models"]
    ]
    return len(serving) == count and bool(status["in_effect"])


async def check_what_people_see(gateway: RunningGateway) -> None:
    """`inferway rollout status|history`, `inferway get`, and the metrics."""
    shown = await rollout("status", "llm-new", gateway=gateway)
    assert "RolledBack" in shown
    assert "llm → llm-new" in shown
    everything = json.loads(await rollout("status", "-o", "json", gateway=gateway))
    assert [one["metadata"]["name"] for one in everything["items"]] == ["llm-new"]
    told = await rollout("history", "llm-new", gateway=gateway)
    assert "every gate passed" in told
    assert "rolled back: asked for" in told
    code, out, _err = await command("get", "rollouts", "--admin", gateway.admin)
    assert code == 0
    assert "llm-new" in out
    async with gateway.session.get(f"{gateway.admin}/metrics") as reply:
        metrics = await reply.text()
    labels = 'namespace="default",phase="RolledBack",rollout="llm-new"'
    assert f"inferway_rollout_phase{{{labels}}} 1.0" in metrics


async def test_base_model_rollout_keeps_adapters_forward_and_back(tmp_path: Path) -> None:
    """The adapter is asked for all the time, both pools serve it; back by a roll-out."""
    folder = tmp_path / "manifests"
    async with servers(2, model="base", adapters=("food-review",), speed=20) as running:
        route = write_pools(folder, running, old="llm-pool", new="llm-pool-version-2")
        old, new = (one.name for one in running)
        async with running_gateway(folder, str(folder), models=("food-review",)) as gateway:
            await gateway.until("both known", lambda: pools_serve(gateway, "food-review", 2))
            async with load(gateway, "food-review") as clients:
                await rollout(
                    *("model", "start", "routes-to-llm", "--name", "v2"),
                    *("--from", "llm-pool", "--to", "llm-pool-version-2", *FAST, *GATES),
                    gateway=gateway,
                )
                forward = await watch(gateway, "v2", "Completed")
                await rollout(
                    *("model", "start", "routes-to-llm", "--name", "v1-again"),
                    *("--from", "llm-pool-version-2", "--to", "llm-pool", *FAST, *GATES),
                    gateway=gateway,
                )
                back = await watch(gateway, "v1-again", "Completed")
            assert clients.errors == []
            check_shares(clients, forward, new)
            check_shares(clients, back, old)
            assert route.read_text() == route_with(
                (100, 0), old="llm-pool", new="llm-pool-version-2"
            )


MODEL = """\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata:
  name: inferencemodel-sample
spec:
  # What clients ask for.
  modelName: llm
  targetModels:
  - name: llm-v1 # the adapter of last month
    weight: 100
  poolRef:
    name: llm
"""


async def test_adapter_rollout_forward_and_back(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    adapters = ("llm-v1", "llm-v2")
    async with servers(1, model="base", adapters=adapters, speed=20) as running:
        (folder / "pool.yaml").write_text(pool_manifest("llm") + server_manifest(running[0], "llm"))
        sample = folder / "inferencemodel-sample.yaml"
        sample.write_text(MODEL)
        async with running_gateway(folder, str(folder), models=adapters) as gateway:
            async with load(gateway, "llm", by_model=True) as clients:
                await rollout(
                    *("lora", "start", "inferencemodel-sample"),
                    *("--from", "llm-v1", "--to", "llm-v2", *FAST, *GATES),
                    gateway=gateway,
                )
                forward = await watch(gateway, "llm-v2", "Completed")
                text = sample.read_text()
                assert "  targetModels:\n  - name: llm-v2\n    weight: 100\n  poolRef:" in text
                await rollout("abort", "llm-v2", gateway=gateway)
                await watch(gateway, "llm-v2", "RolledBack")
                settled = len(clients.answers)
                while len(clients.answers) < settled + 100:
                    await asyncio.sleep(0.05)
            assert clients.errors == []
            check_shares(clients, forward, "llm-v2")
            assert {one.version for one in clients.answers[-50:]} == {"llm-v1"}
            assert "# What clients ask for." in sample.read_text()
            assert sample.read_text().count("weight: 100") == 1


@pytest.mark.parametrize(
    ("fault", "gate", "reason"),
    [
        (FaultRule("error", probability=0.5), "ErrorRate=+1%", "ErrorRate at most 1% above old"),
        (
            FaultRule("slow_first_token", seconds=0.5),
            "TTFT.p90=+100%",
            "TTFT p90 at most 100% above old",
        ),
    ],
    ids=["500s", "slow"],
)
async def test_a_faulty_version_is_rolled_back(
    tmp_path: Path, fault: FaultRule, gate: str, reason: str
) -> None:
    folder = tmp_path / "manifests"
    async with servers(2, model="llama") as running:
        route = write_pools(folder, running, old="llm", new="llm-new")
        running[1].faults = (fault,)
        async with (
            running_gateway(folder, str(folder), models=("llama",)) as gateway,
            load(gateway, "llama") as clients,
        ):
            await rollout(
                *("node", "start", "routes-to-llm", "--from", "llm", "--to", "llm-new"),
                *("--steps", "20,100", "--interval", "20s", "--min-samples", "20"),
                *("--gate", gate),
                gateway=gateway,
            )
            watched = await watch(gateway, "llm-new", "RolledBack")
            assert route.read_text() == route_with((100, 0), old="llm", new="llm-new")
            assert watched.status["breached"]
            assert reason in watched.status["message"]
            assert "sure" in watched.status["message"]
            events = [entry["event"] for entry in watched.status["history"]]
            assert events == ["Started", "RolledBack"], "it never came to the second step"
            assert len(clients.answers) > 50


async def test_a_persons_edit_wins_and_a_killed_control_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    async with servers(2, model="llama", engine="instant") as running:
        route = write_pools(folder, running, old="llm", new="llm-new")
        start = ("node", "start", "routes-to-llm", "--from", "llm", "--to", "llm-new")
        slow = ("--steps", "20,100", "--interval", "2s", "--interval-max", "1h", "--gate", "none")
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            await rollout(*start, *slow, gateway=gateway)
            await watch(gateway, "llm-new", "Progressing")
            route.write_text(route_with((70, 30), old="llm", new="llm-new"))
            watched = await watch(gateway, "llm-new", "Paused")
            assert "somebody else set the weights to 70/30" in watched.status["message"]
            assert route.read_text() == route_with((70, 30), old="llm", new="llm-new")
            gateway.process.kill()
            await gateway.process.wait()
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            await watch(gateway, "llm-new", "Paused")
            await rollout("resume", "llm-new", gateway=gateway)
            await gateway.until("it has written", lambda: holds_text(route, "weight: 100}"))
            gateway.process.kill()
            await gateway.process.wait()
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            watched = await watch(gateway, "llm-new", "Completed")
            events = [entry["event"] for entry in watched.status["history"]]
            assert events == ["Started", "Paused", "Resumed", "Completed"]


async def holds_text(file: Path, text: str) -> bool:
    return text in await asyncio.to_thread(file.read_text)
