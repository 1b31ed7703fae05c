"""Pools of the old group are pools of v1, with a warning, and mistakes stand where they are."""

import pytest

from inferway.resources import HTTPRoute, InferenceObjective, InferencePool
from inferway.resources.decode import decode
from inferway.resources.meta import Object
from inferway.resources.problems import Severity

OLD = """\
apiVersion: inference.networking.x-k8s.io/{version}
kind: InferencePool
metadata: {{name: llm}}
spec:
  selector:
    app: vllm
  targetPortNumber: 8000
  extensionRef:
    name: epp
    failureMode: FailOpen
"""
NEW = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llm}
spec:
  selector: {matchLabels: {app: vllm}}
  targetPorts: [{number: 8000}]
  endpointPickerRef: {name: epp, port: {number: 9002}, failureMode: FailOpen}
"""
ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec:
  rules:
  - filters:
    - type: RequestMirror
      requestMirror: {{backendRef: {{group: {group}, kind: InferencePool, name: shadow}}}}
    backendRefs:
    - {{group: {group}, kind: InferencePool, name: llm}}
"""


def one(text: str) -> Object:
    [entry] = decode(text.encode(), file="p.yaml").entries
    return entry.resource


def errors(text: str) -> list[str]:
    return [str(one) for one in decode(text.encode(), file="p.yaml").problems if one.is_error]


@pytest.mark.parametrize("version", ["v1alpha2", "v1alpha1"])
def test_the_old_shape_means_the_new_one(version: str) -> None:
    text = OLD.format(version=version)
    assert one(text) == one(NEW)
    [problem] = decode(text.encode(), file="p.yaml").problems
    assert problem.severity is Severity.WARNING
    assert (problem.line, problem.field) == (1, "apiVersion")
    assert "is read as inference.networking.k8s.io/v1" in problem.message


def test_the_port_of_the_picker() -> None:
    pool = one(OLD.format(version="v1alpha2") + "    portNumber: 9100\n")
    assert isinstance(pool, InferencePool)
    reference = pool.spec.endpoint_picker_ref
    assert reference is not None
    assert reference.port is not None
    assert reference.port.number == 9100


def test_without_a_picker_it_is_ours() -> None:
    pool = one(OLD.format(version="v1alpha2").partition("  extensionRef")[0])
    assert isinstance(pool, InferencePool)
    assert pool.spec.endpoint_picker_ref is None


@pytest.mark.parametrize(
    ("written", "wrong", "place"),
    [
        ("targetPortNumber: 8000", "targetPortNumber: 0", "p.yaml:7:21: error: spec.targetPort"),
        ("targetPortNumber: 8000", "replicas: 2", "p.yaml:4:1: error: spec.targetPortNumber: req"),
        ("app: vllm", "app: {}", "p.yaml:6:5: error: spec.selector.app: must be a string"),
        ("name: epp", "nane: epp", "p.yaml:9:5: error: spec.extensionRef.nane: unknown field"),
        ("failureMode: FailOpen", "portNumber: x", "p.yaml:10:17: error: spec.extensionRef.portN"),
    ],
)
def test_a_mistake_is_reported_where_it_is_written(written: str, wrong: str, place: str) -> None:
    text = OLD.format(version="v1alpha2").replace(written, wrong)
    assert any(one.startswith(place) for one in errors(text)), errors(text)


def test_references_of_the_old_group_are_of_v1() -> None:
    old, new = (
        one(ROUTE.format(group=f"inference.networking.{domain}"))
        for domain in ("x-k8s.io", "k8s.io")
    )
    assert isinstance(old, HTTPRoute)
    assert old == new
    text = ROUTE.format(group="inference.networking.x-k8s.io")
    problems = decode(text.encode(), file="r.yaml").problems
    assert [problem.field for problem in problems] == [
        "spec.rules[0].filters[0].requestMirror.backendRef.group",
        "spec.rules[0].backendRefs[0].group",
    ]
    assert {problem.severity for problem in problems} == {Severity.WARNING}


def test_a_pool_reference_without_kind() -> None:
    objective = one("""\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: o}
spec: {poolRef: {group: inference.networking.x-k8s.io, name: llm}}
""")
    assert isinstance(objective, InferenceObjective)
    assert objective.spec.pool_ref.group == "inference.networking.k8s.io"
