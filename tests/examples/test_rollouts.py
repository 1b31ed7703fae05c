"""The three roll-outs of the examples, forward and back under load, by editing the weights."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from inferway.cli.demo.workload import Seen, chats, send_all
from tests.hermetic.gateway.rolling import watch

from .running_example import Example, answered_by, assert_share, running_example

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.hermetic.gateway.running import RunningGateway

pytestmark = pytest.mark.hermetic

STEPS = ((50, 50), (0, 100), (50, 50), (100, 0))  # after 90/10: forward, then all the way back
COUNT = 400


@asynccontextmanager
async def load(url: str, models: tuple[str, ...]) -> AsyncIterator[list[Seen]]:
    """Streams all the while; what was seen is complete when the block has ended."""
    seen: list[Seen] = []
    over = asyncio.Event()

    async def one_model(model: str) -> None:
        seed = 1000
        while not over.is_set():
            seed += 1
            seen.extend(await send_all(url, chats(20, model=model, seed=seed), concurrency=2))

    async with asyncio.TaskGroup() as tasks:
        for model in models:
            tasks.create_task(one_model(model))
        yield seen
        over.set()


async def shares(url: str, model: str, seed: int) -> Counter[str]:
    """Where COUNT requests of one model went; all of them were answered."""
    seen = await send_all(url, chats(COUNT, model=model, seed=seed), concurrency=8)
    assert Counter(one.good for one in seen) == {True: COUNT}
    return Counter(one.server for one in seen)


def route_weights(items: list[dict[str, Any]]) -> tuple[int, ...]:
    (route,) = [item for item in items if item["kind"] == "HTTPRoute"]
    return tuple(one["weight"] for one in route["spec"]["rules"][0]["backendRefs"])


async def step(
    example: Example, gateway: RunningGateway, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """Edits the two weights of the route, and returns when they are in force."""
    old, new = [f"          weight: {weight}\n" for weight in before]
    path = example.manifests / "routes-to-llm.yaml"
    head, middle, tail = path.read_text().partition(old)
    assert middle
    assert new in tail
    changed = tail.replace(new, f"          weight: {after[1]}\n", 1)
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{head}          weight: {after[0]}\n{changed}")
    fresh.replace(path)
    await gateway.until_in_effect(lambda items: route_weights(items) == after)


@pytest.mark.parametrize(
    ("name", "models", "new_servers"),
    [
        ("rollout-node", ("llm",), {"llm-new-0"}),
        ("rollout-base-model", ("english-bot", "spanish-bot"), {"llm-pool-version-2-0"}),
    ],
)
@pytest.mark.timeout(300)
async def test_between_pools(
    name: str, models: tuple[str, ...], new_servers: set[str], tmp_path: Path
) -> None:
    async with running_example(name, tmp_path, models=models) as (example, gateway):
        assert_share(await shares(gateway.url, models[0], seed=0), new_servers, 0.1)
        async with load(gateway.url, models) as seen:
            at = (90, 10)
            for seed, weights in enumerate(STEPS, 1):
                await step(example, gateway, at, weights)
                at = weights
                counts = await shares(gateway.url, models[seed % len(models)], seed=seed)
                assert_share(counts, new_servers, weights[1] / 100)
        assert len(seen) >= 20
        assert Counter(one.good for one in seen) == {True: len(seen)}, "no client saw an error"


def version_weights(items: list[dict[str, Any]]) -> dict[str, int]:
    (model,) = [item for item in items if item["kind"] == "InferenceModel"]
    return {one["name"]: one["weight"] for one in model["spec"]["targetModels"]}


@pytest.mark.timeout(300)
async def test_between_versions_of_an_adapter(tmp_path: Path) -> None:
    async with running_example("rollout-adapter", tmp_path, models=("llm-v1", "llm-v2")) as (
        example,
        gateway,
    ):
        asked = [{"model": "llm", "prompt": f"Hi {n}", "max_tokens": 2} for n in range(COUNT)]
        assert_share(await answered_by(gateway, asked), {"llm-v2"}, 0.1)
        pinned = [{**one, "model": "llm-v2"} for one in asked[:30]]
        assert await answered_by(gateway, pinned) == {"llm-v2": 30}, "asked for by name"
        async with load(gateway.url, ("llm",)) as seen:
            for weights in (
                {"llm-v1": 50, "llm-v2": 50},
                {"llm-v2": 100},
                {"llm-v1": 50, "llm-v2": 50},
                {"llm-v1": 100},
            ):
                written = "".join(
                    f"    - name: {name}\n      weight: {weight}\n"
                    for name, weight in weights.items()
                )
                text = (example.manifests / "inferencemodel-sample.yaml").read_text()
                before = text[text.index("    - name: llm-") : text.index("  poolRef")]
                example.edit("inferencemodel-sample.yaml", (before, written))
                await gateway.until_in_effect(
                    lambda items, weights=weights: version_weights(items) == weights
                )
                share = weights.get("llm-v2", 0) / 100
                assert_share(await answered_by(gateway, asked), {"llm-v2"}, share)
        assert len(seen) >= 20
        assert Counter(one.good for one in seen) == {True: len(seen)}, "no client saw an error"


@pytest.mark.timeout(300)
async def test_the_rollout_that_is_copied_in(tmp_path: Path) -> None:
    """As the file says, but for its times: under load, to the end, and no client sees an error."""
    async with running_example("rollout-node", tmp_path, models=("llm",)) as (example, gateway):
        text = (example.folder / "rollout.yaml").read_text()
        for written, shorter in (("interval: 1m", "interval: 1s"), ("10m", "2m")):
            assert written in text
            text = text.replace(written, shorter)
        async with load(gateway.url, ("llm",) * 4) as seen:
            (example.manifests / "rollout.yaml").write_text(text)
            done = await watch(gateway, "llm-new", "Completed")
        events = [entry["event"] for entry in done.status["history"]]
        assert events == ["Started", "Stepped", "Stepped", "Completed"]
        assert Counter(one.good for one in seen) == {True: len(seen)}, "no client saw an error"
        assert set(await shares(gateway.url, "llm", seed=0)) == {"llm-new-0"}
