"""Manifests as the product's pages print them, in several languages: each is accepted, says what it
takes liberties with, and behaves as the page says.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inferway.cli.demo.workload import chats, send_all
from inferway.resources.decode import decode

from .running_example import EXAMPLES, answered_by, assert_share, running_example

if TYPE_CHECKING:
    from tests.hermetic.gateway.running import RunningGateway

SEEDS = Path(__file__).parent / "seeds"
COUNT = 800

PARENT = ("spec.parentRefs[0].kind", "is read as gateway.networking.k8s.io/Gateway")
RULES = ("spec.rules", "read as a list of one rule")
GROUPS = [
    (f"spec.rules[0].backendRefs[{index}].kind", "group of an InferencePool is missing")
    for index in (0, 1)
]
VERSIONS = ("spec.versions", "in no released InferenceModel")
WARNINGS = {
    **{key: [PARENT, RULES] for key in ("node-es", "node-zh", "node-ko")},
    **{key: [PARENT, RULES] for key in ("base-model-es", "base-model-zh", "base-model-ko")},
    **{key: [RULES, *GROUPS] for key in ("node-en", "base-model-en")},
    "adapter-en": [VERSIONS],
}
# What stands beside the printed manifest, and its corrected copy.
CORRECTED = {
    "node": "rollout-node/manifests/routes-to-llm.yaml",
    "base-model": "rollout-base-model/manifests/routes-to-llm.yaml",
    "adapter": "rollout-adapter/manifests/inferencemodel-sample.yaml",
}


def seeds() -> list[Path]:
    return sorted(SEEDS.glob("*.yaml"))


def test_all_of_them_are_known() -> None:
    assert {seed.stem for seed in seeds()} == set(WARNINGS)


@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: seed.stem)
def test_accepted_with_a_warning_for_every_liberty(seed: Path) -> None:
    decoded = decode(seed.read_bytes(), file=seed.name)
    assert len(decoded.entries) == 1
    assert not decoded.has_errors
    assert all(problem.hint for problem in decoded.problems), "how to mend it"
    found = [(problem.field, problem.message) for problem in decoded.problems]
    wanted = WARNINGS[seed.stem]
    assert [field for field, _ in found] == [field for field, _ in wanted]
    assert all(part in said for (_, said), (_, part) in zip(found, wanted, strict=True))


@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: seed.stem)
def test_the_corrected_copy_means_the_same_and_warns_of_nothing(seed: Path) -> None:
    kind, _, _ = seed.stem.rpartition("-")
    path = EXAMPLES / CORRECTED[kind]
    corrected = decode(path.read_bytes(), file=path.name)
    assert corrected.problems == ()
    (printed,) = decode(seed.read_bytes(), file=seed.name).entries
    (copy,) = corrected.entries
    assert copy.resource.key[:4] == printed.resource.key[:4]
    if kind == "adapter":
        shares = {"llm-v1": 90, "llm-v2": 10}
        versions = printed.resource.manifest()["spec"]["versions"]  # type: ignore[index]
        targets = copy.resource.manifest()["spec"]["targetModels"]  # type: ignore[index]
        assert {one["modelName"]: one["weight"] for one in versions} == shares
        assert {one["name"]: one["weight"] for one in targets} == shares
    else:
        assert copy.resource.spec == printed.resource.spec


def origins(items: list[dict[str, Any]], kind: str) -> list[str]:
    """Names of the files that objects of a kind come from."""
    return [Path(one["origin"]).name.partition(":")[0] for one in items if one["kind"] == kind]


@pytest.mark.hermetic
@pytest.mark.parametrize(
    ("kind", "example", "model", "new_servers"),
    [
        ("node", "rollout-node", "llm", {"llm-new-0"}),
        ("base-model", "rollout-base-model", "english-bot", {"llm-pool-version-2-0"}),
    ],
)
@pytest.mark.timeout(300)
async def test_most_of_the_traffic_and_the_rest(
    kind: str, example: str, model: str, new_servers: set[str], tmp_path: Path
) -> None:
    """One language after the other in the same gateway, in place of the corrected copy."""
    async with running_example(example, tmp_path, models=(model,)) as (files, gateway):
        before = files.manifests / "routes-to-llm.yaml"
        for number, seed in enumerate(one for one in seeds() if one.stem.startswith(f"{kind}-")):
            after = files.manifests / seed.name
            before.unlink()
            after.write_bytes(seed.read_bytes())
            await gateway.until_in_effect(
                lambda items, name=seed.name: origins(items, "HTTPRoute") == [name]
            )
            before = after
            await served_90_10(gateway, model, new_servers, seed=number)
            warnings = [one["text"] for one in (await gateway.status())["problems"]]
            assert len(warnings) == len(WARNINGS[seed.stem]), "visible to whoever asks"


async def served_90_10(
    gateway: RunningGateway, model: str, new_servers: set[str], *, seed: int
) -> None:
    asks = chats(COUNT, model=model, seed=seed)
    seen = await send_all(gateway.url, asks, concurrency=8)
    assert Counter(one.good for one in seen) == {True: COUNT}
    assert_share(Counter(one.server for one in seen), new_servers, 0.1)


@pytest.mark.hermetic
@pytest.mark.timeout(300)
async def test_most_of_the_answers_from_the_first_version(tmp_path: Path) -> None:
    """The page does not say what clients ask for: the name of the object, by our decision."""
    seed = SEEDS / "adapter-en.yaml"
    versions = ("llm-v1", "llm-v2")
    async with running_example("rollout-adapter", tmp_path, models=versions) as (files, gateway):
        (files.manifests / "inferencemodel-sample.yaml").unlink()
        (files.manifests / seed.name).write_bytes(seed.read_bytes())
        await gateway.until_in_effect(
            lambda items: origins(items, "InferenceModel") == [seed.name],
        )
        body = {"model": "inferencemodel-sample", "max_tokens": 2}
        asked = [{**body, "prompt": f"Question {number}"} for number in range(COUNT)]
        assert_share(await answered_by(gateway, asked), {"llm-v2"}, 0.1)
        for version in versions:
            pinned = [{"model": version, "prompt": "Hi", "max_tokens": 2}] * 20
            assert await answered_by(gateway, pinned) == {version: 20}
        (warning,) = (await gateway.status())["problems"]
        assert "versions is in no released InferenceModel" in warning["text"]
