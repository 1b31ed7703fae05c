"""`inferway validate` on Rollouts: the object with the weights is there and names both versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .conftest import call

if TYPE_CHECKING:
    from pathlib import Path

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  rules:
    - backendRefs:
        - {group: inference.networking.k8s.io, kind: InferencePool, name: old, weight: OLD}
        - {group: inference.networking.k8s.io, kind: InferencePool, name: new, weight: 0}
    - backendRefs:
        - {group: inference.networking.k8s.io, kind: InferencePool, name: old}
        - {group: inference.networking.k8s.io, kind: InferencePool, name: third}
"""
ROLLOUT = """\
apiVersion: inferway.dev/v1alpha1
kind: Rollout
metadata: {name: ro}
spec:
  targetRef:
    kind: HTTPRoute
    name: chat
  from: old
  to: new
  steps:
    - weight: 100
"""
MODEL = """\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec:
  modelName: llm
  criticality: Critical
  poolRef: {name: old}
  targetModels:
    - {name: old, weight: 100}
"""


def problems(
    folder: Path, rollout: str, *, route: str = ROUTE, name: str = "rollout.yaml"
) -> list[str]:
    """What is said of the Rollout's file, without the folder."""
    (folder / "target.yaml").write_text(route.replace("OLD", "100"))
    (folder / name).write_text(rollout)
    found = call("validate", str(folder))
    lines = [one for one in found.err.splitlines() if name in one]
    return [line.replace(f"{folder}/", "") for line in lines]


def test_nothing_is_wrong(tmp_path: Path) -> None:
    assert problems(tmp_path, ROLLOUT) == []


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        (("name: chat", "name: char"), "7:11: error: spec.targetRef.name", "does not exist"),
        (
            ("name: chat", "name: chat\n    rule: 2"),
            "8:11: error: spec.targetRef.rule",
            "rule 2 of",
        ),
        (("from: old", "from: odd"), "8:9: error: spec.from", "does not name odd and new together"),
        (("to: new", "to: neo"), "9:7: error: spec.to", "add neo beside old with weight: 0"),
        (
            ("  from: old\n  to: new", "  from: new\n  to: third"),
            "5:3: error: spec.targetRef",
            "does not name new and third together",
        ),
        (("name: chat", "name: chat\n    rule: 1"), "10:7: error: spec.to", "rule 1 of"),
    ],
)
def test_the_field_to_blame(tmp_path: Path, change: tuple[str, str], place: str, says: str) -> None:
    (line,) = problems(tmp_path, ROLLOUT.replace(*change))
    assert line.startswith(f"rollout.yaml:{place}: "), line
    assert says in line


def test_weights_that_nothing_can_move(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, ROLLOUT, route=ROUTE.replace("OLD", "0"))
    assert "spec.targetRef: spec.rules[0].backendRefs: both weights are 0" in line


def test_steps_that_cannot_be_written_beside_others(tmp_path: Path) -> None:
    third = "\n        - {group: inference.networking.k8s.io, kind: InferencePool, name: third}"
    route = ROUTE.replace("OLD", "7").replace("weight: 0}", "weight: 0}" + third)
    steps = ROLLOUT.replace("    - weight: 100", "    - weight: 10\n    - weight: 100")
    (line,) = problems(tmp_path, steps, route=route)
    assert "error: spec.steps: the weights of old and new sum to 7" in line


def test_a_new_adapter_has_no_entry_yet(tmp_path: Path) -> None:
    of_model = ROLLOUT.replace("HTTPRoute", "InferenceModel")
    assert problems(tmp_path, of_model, route=MODEL) == []
    neither = of_model.replace("from: old", "from: v1").replace("to: new", "to: v2")
    (line,) = problems(tmp_path, neither, route=MODEL)
    assert line.startswith("rollout.yaml:8:9: error: spec.from: ")
    assert "names neither v1 nor v2" in line


def test_one_that_is_over_may_have_lost_its_versions(tmp_path: Path) -> None:
    gone = ROLLOUT.replace("from: old", "from: gone")
    target = "targetRef: {kind: HTTPRoute, name: chat}"
    status = f"status: {{phase: Completed, {target}, from: gone, to: new}}\n"
    assert problems(tmp_path, gone + status) == []
    again = gone.replace("spec:", "spec:\n  attempt: 2")
    assert len(problems(tmp_path, again + status)) == 1
    (line,) = problems(tmp_path, gone + "status: {phase: Lost}\n")
    assert "error: status: status." in line


def test_in_a_list_of_a_json_file(tmp_path: Path) -> None:
    text = """{"apiVersion": "v1", "kind": "List", "items": [
 {"apiVersion": "inferway.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "ro"},
  "spec": {"targetRef": {"kind": "HTTPRoute", "name": "chat"}, "steps": [{"weight": 100}],
   "from": "old",
   "to": "neo"}}]}
"""
    (line,) = problems(tmp_path, text, name="rollout.json")
    assert line.startswith("rollout.json:5:10: error: spec.to: ")
