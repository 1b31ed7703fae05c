"""Where each kind keeps the weights, and what is written there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from inferway.resources.edits import edited
from inferway.resources.rollout import RolloutSpec
from inferway.rollout.weights import (
    TargetError,
    Weights,
    find_weights,
    total_for,
    weight_edits,
)

if TYPE_CHECKING:
    from inferway.resources.document import Json


def spec(
    kind: str = "HTTPRoute", *, steps: tuple[int, ...] = (10, 50, 100), **target: Any
) -> RolloutSpec:
    return RolloutSpec.model_validate(
        {
            "targetRef": {"kind": kind, "name": "x", **target},
            "from": "old",
            "to": "new",
            "steps": [{"weight": weight} for weight in steps],
        }
    )


def route(*rules: list[tuple[str, int | None]]) -> Json:
    """An HTTPRoute; None: without a weight."""

    def reference(name: str, weight: int | None) -> dict[str, Json]:
        return {"name": name} if weight is None else {"name": name, "weight": weight}

    return {
        "spec": {"rules": [{"backendRefs": [reference(*one) for one in rule]} for rule in rules]}
    }


def written(manifest: Json, of: RolloutSpec, weights: Weights) -> Json:
    return edited(manifest, weight_edits(find_weights(manifest, of), of, weights))


def test_every_rule_of_a_route_that_has_both() -> None:
    manifest = route([("old", 90), ("new", 10)], [("other", 1)], [("new", None), ("old", None)])
    places = find_weights(manifest, spec())
    assert [place.weights for place in places] == [Weights(90, 10), Weights(1, 1)]
    assert written(manifest, spec(), Weights(0, 100)) == route(
        [("old", 0), ("new", 100)], [("other", 1)], [("new", 100), ("old", 0)]
    )
    (only,) = find_weights(manifest, spec(rule=2))
    assert only.path == ("spec", "rules", 2, "backendRefs")
    with pytest.raises(TargetError, match="rule 1 of HTTPRoute x does not name old and new"):
        find_weights(manifest, spec(rule=1))


def test_rules_given_as_a_mapping() -> None:
    manifest: Json = {"spec": {"rules": {"backendRefs": [{"name": "old"}, {"name": "new"}]}}}
    (place,) = find_weights(manifest, spec())
    assert place.path == ("spec", "rules", "backendRefs")


def test_a_route_needs_both() -> None:
    with pytest.raises(TargetError, match="hint: add new beside old with weight: 0"):
        find_weights(route([("old", 1)]), spec())
    with pytest.raises(TargetError, match="both weights are 0"):
        find_weights(route([("old", 0), ("new", 0)]), spec())
    for broken in (None, {}, {"spec": {}}, {"spec": {"rules": [None, {"backendRefs": 1}]}}):
        with pytest.raises(TargetError):
            find_weights(broken, spec())


def test_versions_of_a_model_may_have_weight_0() -> None:
    manifest: Json = {
        "spec": {
            "versions": [
                {"modelName": "old", "weight": 90},
                {"modelName": "new", "weight": 10},
            ]
        }
    }
    found = written(manifest, spec("InferenceModel"), Weights(0, 100))
    assert found == {
        "spec": {
            "versions": [
                {"modelName": "old", "weight": 0},
                {"modelName": "new", "weight": 100},
            ]
        }
    }


@pytest.mark.parametrize(
    ("kind", "name_field"),
    [("InferenceModel", "name"), ("InferenceModelRewrite", "modelRewrite")],
)
def test_where_0_is_illegal_the_entry_goes_and_comes_back(kind: str, name_field: str) -> None:
    def manifest(*entries: tuple[str, int]) -> Json:
        items: list[Json] = [{name_field: name, "weight": weight} for name, weight in entries]
        if kind == "InferenceModel":
            return {"spec": {"targetModels": items}}
        return {"spec": {"rules": [{"targets": items}]}}

    of = spec(kind)
    begin = manifest(("old", 100))
    step = written(begin, of, Weights(90, 10))
    assert step == manifest(("old", 90), ("new", 10))
    end = written(step, of, Weights(0, 100))
    assert end == manifest(("new", 100))
    assert [place.weights for place in find_weights(end, of)] == [Weights(0, 100)]
    assert written(end, of, Weights(100, 0)) == manifest(("old", 100))


@pytest.mark.parametrize(
    ("rules", "total"),
    [
        ([[("old", 100), ("new", 0)]], 100),
        ([[("old", 1), ("new", 0)]], 100),  # 10 % of 1 cannot be written
        ([[("old", 990), ("new", 10)]], 1000),  # it can of 1000
        ([[("old", 9), ("new", 1), ("other", 90)]], 10),
        ([[("old", 90), ("new", 10)], [("old", 1), ("new", 1)]], 100),
    ],
)
def test_total(rules: list[list[tuple[str, int | None]]], total: int) -> None:
    assert total_for(find_weights(route(*rules), spec()), spec()) == total


def test_the_shares_of_others_are_not_changed() -> None:
    manifest = route([("old", 1), ("new", 0), ("other", 1)])
    with pytest.raises(TargetError, match="multiply all weights by 100"):
        total_for(find_weights(manifest, spec()), spec())
