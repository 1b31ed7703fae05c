"""Every spelling of a split of one name gives the same routing table, whoever reads it in what
order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.resources.decode import decode
from inferway.resources.resource_set import assemble
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import translate

if TYPE_CHECKING:
    from random import Random

    from inferway.routing.model import Pool

LEGACY = "inference.networking.x-k8s.io"
NAMES = ["v1", "v2", "v3", "v4"]


@dataclass(frozen=True)
class Split:
    alias: str
    targets: tuple[tuple[str, int | None], ...]


shares = st.lists(st.sampled_from(NAMES), unique=True, min_size=1).flatmap(
    lambda names: st.one_of(
        st.just([None] * len(names)),
        st.lists(st.integers(1, 1_000_000), min_size=len(names), max_size=len(names)),
    ).map(lambda weights: tuple(zip(names, weights, strict=True)))
)
# The alias is also the name of the object in one of the spellings.
splits = st.builds(Split, alias=st.sampled_from(["llm", "v1", "chat.large"]), targets=shares)


def weighted(target: dict[str, object], weight: int | None) -> dict[str, object]:
    return target if weight is None else {**target, "weight": weight}


def spellings(split: Split) -> list[dict[str, object]]:
    pool = {"name": "p"}
    model = {"apiVersion": f"{LEGACY}/v1alpha2", "kind": "InferenceModel"}
    versions = [weighted({"modelName": name}, weight) for name, weight in split.targets]
    targets = [weighted({"name": name}, weight) for name, weight in split.targets]
    rewrites = [weighted({"modelRewrite": name}, weight) for name, weight in split.targets]
    rule = {"matches": [{"model": {"value": split.alias}}], "targets": rewrites}
    return [
        {
            **model,
            "metadata": {"name": split.alias},
            "spec": {"versions": [{**one, "poolRef": pool} for one in versions]},
        },
        {
            **model,
            "metadata": {"name": "any"},
            "spec": {"modelName": split.alias, "versions": versions, "poolRef": pool},
        },
        *(
            {
                "apiVersion": f"{LEGACY}/{version}",
                "kind": "InferenceModel",
                "metadata": {"name": "any"},
                "spec": {"modelName": split.alias, "targetModels": targets, "poolRef": pool},
            }
            for version in ("v1alpha1", "v1alpha2")
        ),
        *(
            {
                "apiVersion": f"{group}/v1alpha2",
                "kind": "InferenceModelRewrite",
                "metadata": {"name": "any"},
                "spec": {"poolRef": pool, "rules": [rule]},
            }
            for group in (LEGACY, "llm-d.ai")
        ),
    ]


POOL: dict[str, object] = {
    "apiVersion": "inference.networking.k8s.io/v1",
    "kind": "InferencePool",
    "metadata": {"name": "p"},
    "spec": {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 8000}]},
}


def pool_of(*manifests: dict[str, object]) -> Pool:
    text = json.dumps({"kind": "List", "apiVersion": "v1", "items": [POOL, *manifests]})
    decoded = decode(text.encode(), file="m.json")
    assert not decoded.has_errors
    resources, problems = assemble(decoded.entries)
    assert not problems
    return translate(resources, settings=RoutingSettings()).model.pools["default/p"]


@settings(max_examples=50, deadline=None)
@given(splits)
def test_spellings_of_one_split_are_one_routing_table(split: Split) -> None:
    tables = [pool_of(manifest).rewrites for manifest in spellings(split)]
    assert all(table == tables[0] for table in tables)
    (rewrite,) = tables[0]
    assert rewrite.model == split.alias
    total = sum(target.weight for target in rewrite.targets)
    given_total = sum(weight or 1 for _, weight in split.targets)
    for target, (name, weight) in zip(rewrite.targets, split.targets, strict=True):
        assert target.model == name
        assert target.weight * given_total == (weight or 1) * total


@settings(max_examples=50, deadline=None)
@given(st.lists(splits, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_order_of_files_does_not_matter(found: list[Split], random: Random) -> None:
    manifests = []
    for number, split in enumerate(found):
        manifest = random.choice(spellings(split)[1:])
        year = 2026 - random.randrange(3)
        metadata = {"name": f"o{number}", "creationTimestamp": f"{year}-01-01T00:00:00Z"}
        manifests.append({**manifest, "metadata": metadata})
    before = pool_of(*manifests).rewrites
    random.shuffle(manifests)
    assert pool_of(*manifests).rewrites == before
