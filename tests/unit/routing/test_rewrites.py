"""Who gets a model name: precedence between objects, inside them, and over pools of one rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferway.resources import ResourceSet
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate

Load = Callable[[str], ResourceSet]

POOLS = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: a}
spec: {selector: {matchLabels: {a: b}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: b}
spec: {selector: {matchLabels: {a: b}}, targetPorts: [{number: 8000}]}
"""


def model(name: str, alias: str, target: str, *, year: int = 0, more: str = "") -> str:
    created = f", creationTimestamp: '{year}-01-01T00:00:00Z'" if year else ""
    return f"""
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {{name: {name}{created}}}
spec: {{modelName: {alias}, targetModels: [{{name: {target}}}], poolRef: {{name: a}}{more}}}
"""


def rewrite(name: str, rules: str, *, year: int = 0, pool: str = "a") -> str:
    created = f", creationTimestamp: '{year}-01-01T00:00:00Z'" if year else ""
    return f"""
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {{name: {name}{created}}}
spec: {{poolRef: {{name: {pool}}}, rules: {rules}}}
"""


def exact(alias: str, target: str) -> str:
    return f"{{matches: [{{model: {{value: {alias}}}}}], targets: [{{modelRewrite: {target}}}]}}"


def route(*pools: str) -> str:
    kind = "group: inference.networking.k8s.io, kind: InferencePool"
    refs = ", ".join(
        f"{{{kind}, name: {one}, weight: {weight}}}" for weight, one in enumerate(pools)
    )
    return f"""
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec: {{rules: [{{backendRefs: [{refs}]}}]}}
"""


def translated(load: Load, *texts: str) -> Translation:
    return translate(load("".join([POOLS, *texts])), settings=RoutingSettings())


def table(translation: Translation, pool: str = "a") -> dict[str, list[str]]:
    rewrites = translation.model.pools[f"default/{pool}"].rewrites
    return {one.model: [target.model for target in one.targets] for one in rewrites}


def accepted(translation: Translation) -> dict[str, str]:
    return {
        one.key.name: one.conditions[0].reason
        for one in translation.statuses
        if one.key.kind in ("InferenceModel", "InferenceModelRewrite")
    }


@pytest.mark.parametrize(
    ("texts", "winner"),
    [
        ([model("m", "llm", "x", year=2025), model("n", "llm", "y", year=2024)], "y"),
        ([model("m", "llm", "x"), model("n", "llm", "y", year=2024)], "y"),
        ([model("m", "llm", "x"), model("n", "llm", "y")], "x"),
        ([rewrite("a", f"[{exact('llm', 'r')}]"), model("m", "llm", "x", year=2024)], "x"),
        ([rewrite("a", f"[{exact('llm', 'r')}]"), model("m", "llm", "x")], "r"),
        ([rewrite("m", f"[{exact('llm', 'r')}]"), model("m", "llm", "x")], "x"),
        ([rewrite("a", f"[{exact('llm', 'r')}, {exact('llm', 's')}]")], "r"),
    ],
    ids=[
        "the older",
        "a time before none",
        "the name decides",
        "over kinds, the older",
        "over kinds, the name",
        "over kinds, the kind",
        "the first in the list",
    ],
)
def test_one_object_gets_the_name(load: Load, texts: list[str], winner: str) -> None:
    translation = translated(load, *texts)
    assert table(translation) == {"llm": [winner]}
    if len(texts) > 1:
        assert (
            sorted(accepted(translation).values()) == ["Accepted", "ModelNameInUse"]
            or len(accepted(translation)) == 1
        )  # both have one name


def test_a_name_may_be_used_again_in_another_pool(load: Load) -> None:
    rules = f"[{exact('llm', 'other')}]"
    translation = translated(load, model("m", "llm", "x"), rewrite("r", rules, pool="b"))
    assert table(translation) == {"llm": ["x"]}
    assert table(translation, "b") == {"llm": ["other"]}
    assert set(accepted(translation).values()) == {"Accepted"}


def test_pools_of_one_rule_share_names_but_no_rule_for_all(load: Load) -> None:
    rules = f"[{exact('draft', 'd')}, {{targets: [{{modelRewrite: any}}]}}]"
    own = rewrite("own", f"[{exact('draft', 'mine')}]", pool="b")
    texts = [model("m", "llm", "x", more=", criticality: Critical"), rewrite("r", rules), own]
    apart = translated(load, *texts, route("a"))
    assert table(apart, "b") == {"draft": ["mine"]}
    together = translated(load, *texts, route("b", "a"))  # b at weight 0
    assert table(together, "b") == {"draft": ["mine"], "llm": ["x"]}
    assert table(together) == {"": ["any"], "draft": ["d"], "llm": ["x"]}
    assert together.model.pools["default/b"].objectives == (("llm", 10),)


def test_an_objective_comes_before_a_criticality(load: Load) -> None:
    objective = """
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: llm}
spec: {priority: 3, poolRef: {name: a}}
"""
    sheddable = model("m", "llm", "x", more=", criticality: Sheddable")
    assert translated(load, sheddable).model.pools["default/a"].objectives == (("llm", -10),)
    both = translated(load, sheddable, objective).model.pools["default/a"]
    assert both.objectives == (("llm", 3),)


def test_a_version_without_weight_is_served_no_more_but_can_be_asked_for(load: Load) -> None:
    versions = """
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: llm}
spec:
  poolRef: {name: a}
  versions: [{modelName: llm-v1, weight: 0}, {modelName: llm-v2, weight: 5}]
"""
    assert table(translated(load, versions)) == {"llm": ["llm-v2"]}
