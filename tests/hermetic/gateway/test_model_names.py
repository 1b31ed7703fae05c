"""Aliases through a whole gateway: shares, what the client sees, changes under load, a dead
endpoint, a dead picker, pools that share a rule.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from inferway.simulator.faults import FaultRule
from tests.binomial import fits_share

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

ADAPTERS = ("llm-v1", "llm-v2")
MODEL = """
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {{name: llm, annotations: {{inferway.dev/sticky: {sticky}}}}}
spec:
  versions:
  - {{modelName: llm-v1, criticality: Critical, weight: {v1}, poolRef: {{name: chat}}}}
  - {{modelName: llm-v2, criticality: Critical, weight: {v2}, poolRef: {{name: chat}}}}
---
"""
SPLIT = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split}
spec:
  rules:
  - backendRefs:
    - {group: inference.networking.k8s.io, kind: InferencePool, name: chat, weight: 50}
    - {group: inference.networking.k8s.io, kind: InferencePool, name: new, weight: 50}
---
"""


def write_weights(folder: Path, v1: int, v2: int, sticky: str = "none") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model.yaml").write_text(MODEL.format(v1=v1, v2=v2, sticky=sticky))


def weights(items: list[dict[str, Any]]) -> list[int]:
    (model,) = [item for item in items if item["kind"] == "InferenceModel"]
    return [one["weight"] for one in model["spec"]["versions"]]


def body(model: str, *, stream: bool = False, words: int = 1) -> dict[str, Any]:
    messages = [{"role": "user", "content": "word " * words}]
    return {"max_tokens": 3, "messages": messages, "stream": stream, "model": model}


async def served(gateway: RunningGateway, model: str, **headers: str) -> str:
    """The model that the answer shows."""
    status, _, reply = await gateway.post(body(model), headers=headers)
    assert status == 200, reply
    return str(reply["model"])


async def streamed(gateway: RunningGateway, model: str) -> str:
    """The one model that every event of a streamed answer shows."""
    url = f"{gateway.url}/v1/chat/completions"
    async with gateway.session.post(url, json=body(model, stream=True)) as reply:
        assert reply.status == 200
        text = await reply.text()
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data:")]
    assert lines[-1] == "[DONE]"
    (shown,) = {json.loads(line)["model"] for line in lines[:-1]}
    return str(shown)


async def test_shares_and_a_change_under_load(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    write_weights(folder, 90, 10)
    async with servers(2, model="base", adapters=ADAPTERS, engine="instant") as running:
        pool = pool_manifest("chat") + "".join(server_manifest(one, "chat") for one in running)
        (folder / "pool.yaml").write_text(pool)
        async with running_gateway(folder, str(folder), models=("llm", "llm-v2")) as gateway:
            whole = Counter([await served(gateway, "llm") for _ in range(400)])
            assert fits_share(whole["llm-v2"], 0.1, of=400), whole
            parts = Counter([await streamed(gateway, "llm") for _ in range(200)])
            assert fits_share(parts["llm-v2"], 0.1, of=200), parts
            assert {await served(gateway, "llm-v1") for _ in range(30)} == {"llm-v1"}
            assert await served(gateway, "base") == "base"

            done = asyncio.Event()

            async def load() -> int:
                count = 0
                while not done.is_set():
                    await served(gateway, "llm")  # any error fails the test
                    await streamed(gateway, "llm")
                    count += 2
                return count

            async with asyncio.TaskGroup() as tasks:
                under_load = [tasks.create_task(load()) for _ in range(4)]
                for v1, v2 in ((50, 50), (0, 100), (100, 0), (0, 100)):
                    write_weights(folder, v1, v2)
                    await gateway.until_in_effect(lambda items, w=[v1, v2]: weights(items) == w)
                done.set()
            assert sum(task.result() for task in under_load) > 10
            assert {await served(gateway, "llm") for _ in range(30)} == {"llm-v2"}

            models = {one.id: one async for one in gateway.openai.models.list()}
            alias = models["llm"].model_dump()
            assert (alias["root"], alias["parent"]) == ("llm-v2", "base")


async def test_what_a_client_may_not_choose_and_who_keeps_a_version(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    write_weights(folder, 50, 50, sticky="session")
    async with servers(1, model="base", adapters=ADAPTERS, engine="instant") as running:
        pool = pool_manifest("chat") + server_manifest(running[0], "chat")
        (folder / "pool.yaml").write_text(pool)
        async with running_gateway(folder, str(folder), models=("llm", "llm-v2")) as gateway:
            before = {}
            for number in range(60):
                session = f"s{number}"
                found = {await served(gateway, "llm", **{"x-session-id": session}) for _ in "123"}
                (before[session],) = found
            assert fits_share(Counter(before.values())["llm-v2"], 0.5, of=60)

            write_weights(folder, 75, 25, sticky="session")
            await gateway.until_in_effect(lambda items: weights(items) == [75, 25])
            for session, version in before.items():
                now = await served(gateway, "llm", **{"x-session-id": session})
                assert now == version or (version, now) == ("llm-v2", "llm-v1")

            for name in ("x-gateway-model-name-rewrite", "x-llm-d-model-name-rewrite"):
                found = {await served(gateway, "llm-v1", **{name: "llm-v2"}) for _ in range(5)}
                assert found == {"llm-v1"}


async def test_a_retry_sends_the_renamed_body(tmp_path: Path) -> None:
    """One of two endpoints refuses connections: Envoy goes on to the other with the whole body."""
    folder = tmp_path / "manifests"
    write_weights(folder, 0, 1)
    async with servers(2, model="base", adapters=ADAPTERS, engine="instant") as running:
        round_robin = "inferway.dev/policy: round-robin"
        pool = pool_manifest("chat", annotations=round_robin)
        (folder / "pool.yaml").write_text(
            pool + "".join(server_manifest(one, "chat") for one in running)
        )
        async with running_gateway(folder, str(folder), models=("llm", "llm-v2")) as gateway:

            async def endpoints() -> list[dict[str, Any]]:
                return list((await gateway.status())["pools"][0]["endpoints"])

            async def all_told() -> bool:
                return all(one["models"] for one in await endpoints())

            await gateway.until("both servers are known", all_told)
            running[1].faults = (FaultRule("refuse"),)
            for words in (1, 1, 1, 1, 20_000, 20_000):
                status, headers, reply = await gateway.post(body("llm", words=words))
                assert status == 200, reply
                assert headers["x-inference-pod"] == running[0].name
                assert reply["model"] == "llm-v2"
                assert reply["usage"]["prompt_tokens"] >= words

            async def both_were_picked() -> bool:
                return all(one["picks"] for one in await endpoints())

            await gateway.until("the dead server was chosen too", both_were_picked)


async def test_without_the_picker_aliases_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    write_weights(folder, 50, 50)
    async with servers(2, model="base", adapters=ADAPTERS, engine="instant") as running:
        pool = pool_manifest("chat") + "".join(server_manifest(one, "chat") for one in running)
        (folder / "pool.yaml").write_text(pool)
        async with running_gateway(folder, str(folder), models=("llm", "llm-v2")) as gateway:
            await gateway.kill("picker")
            found = Counter([await served(gateway, "llm") for _ in range(100)])
            assert set(found) == set(ADAPTERS)


async def test_pools_of_one_rule_share_the_alias(tmp_path: Path) -> None:
    """A base model is rolled out: the InferenceModel names the old pool and is not touched."""
    folder = tmp_path / "manifests"
    write_weights(folder, 50, 50)
    async with servers(2, model="base", adapters=ADAPTERS, engine="instant") as running:
        (folder / "pools.yaml").write_text(
            SPLIT
            + pool_manifest("chat")
            + pool_manifest("new")
            + server_manifest(running[0], "chat")
            + server_manifest(running[1], "new")
        )
        async with running_gateway(folder, str(folder), models=("llm", "llm-v2")) as gateway:
            found: Counter[tuple[str, str]] = Counter()
            for _ in range(120):
                _, headers, reply = await gateway.post(body("llm"))
                found[headers["x-inference-pod"], reply["model"]] += 1
            assert len(found) == 4, found
            assert min(found.values()) > 10
