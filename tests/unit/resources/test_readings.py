"""The documented liberties (C1, C2, C3, C6): accepted, each with a warning at its line."""

import pytest

from inferway.resources import HTTPRoute
from inferway.resources.decode import decode
from inferway.resources.problems import Severity
from inferway.resources.resource_set import assemble

# The roll-out example of the product documentation, as people copy it.
PRINTED = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: routes-to-llm
spec:
  parentRefs:
    - name: my-inference-gateway
      group: inference.networking.k8s.io
      kind: InferenceGateway
  rules:
    backendRefs:
    - name: llm
      group: inference.networking.k8s.io
      kind: InferencePool
      weight: 90
    - name: llm-new
      kind: InferencePool
      weight: 10
"""
STANDARD = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: routes-to-llm
spec:
  parentRefs:
    - name: my-inference-gateway
  rules:
  - backendRefs:
    - name: llm
      group: inference.networking.k8s.io
      kind: InferencePool
      weight: 90
    - name: llm-new
      group: inference.networking.k8s.io
      kind: InferencePool
      weight: 10
"""


def route_of(text: str) -> HTTPRoute:
    [entry] = decode(text.encode(), file="r.yaml").entries
    assert isinstance(entry.resource, HTTPRoute)
    return entry.resource


def test_the_printed_example_means_the_standard_one() -> None:
    assert route_of(PRINTED) == route_of(STANDARD)
    assert decode(STANDARD.encode(), file="r.yaml").problems == ()


def test_every_liberty_is_a_warning() -> None:
    problems = decode(PRINTED.encode(), file="r.yaml").problems
    assert {problem.severity for problem in problems} == {Severity.WARNING}
    assert [str(problem) for problem in problems] == [
        (
            "r.yaml:9:13: warning: spec.parentRefs[0].kind: inference.networking.k8s.io/"
            "InferenceGateway is read as gateway.networking.k8s.io/Gateway "
            "(hint: remove group and kind)"
        ),
        (
            "r.yaml:10:3: warning: spec.rules: rules is a mapping; read as a list of one rule "
            "(hint: write '- ' before the first field of the rule)"
        ),
        (
            "r.yaml:17:13: warning: spec.rules[0].backendRefs[1].kind: group of an "
            "InferencePool is "
            "missing; read as inference.networking.k8s.io "
            "(hint: add group: inference.networking.k8s.io)"
        ),
    ]


def test_errors_inside_rules_given_as_a_mapping_have_their_line() -> None:
    problems = decode(PRINTED.replace("weight: 90", "weight: -1").encode(), file="r.yaml").problems
    [error] = [problem for problem in problems if problem.is_error]
    assert (error.line, error.field) == (15, "spec.rules[0].backendRefs[0].weight")


def test_a_mirror_without_group_is_read_alike() -> None:
    text = STANDARD + (
        "    filters:\n"
        "    - type: RequestMirror\n"
        "      requestMirror: {backendRef: {kind: InferencePool, name: shadow}}\n"
    )
    [warning] = decode(text.encode(), file="r.yaml").problems
    assert warning.field == "spec.rules[0].filters[0].requestMirror.backendRef.kind"
    mirror = route_of(text).spec.rules[0].filters[0].request_mirror
    assert mirror is not None
    assert mirror.backend_ref.group == "inference.networking.k8s.io"


@pytest.mark.parametrize(
    "backend",
    [
        "{kind: InferencePool, name: a, group: ''}",  # written out: core, which routing refuses
        "{kind: InferencePool, name: a, group: example.com}",
        "{kind: Service, name: a, port: 80}",
    ],
)
def test_what_is_written_is_left_alone(backend: str) -> None:
    text = STANDARD.replace("  - backendRefs:\n", f"  - backendRefs:\n    - {backend}\n")
    assert decode(text.encode(), file="r.yaml").problems == ()


def test_an_alias_shared_by_two_rules_is_read_twice() -> None:
    text = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
  - backendRefs: &refs [{kind: InferencePool, name: a}]
  - backendRefs: *refs
"""
    problems = decode(text.encode(), file="r.yaml").problems
    assert [(problem.line, problem.field) for problem in problems] == [
        (6, "spec.rules[0].backendRefs[0].kind"),
        (6, "spec.rules[1].backendRefs[0].kind"),
    ]


OBJECTIVE = """\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {{name: chatbot}}
spec: {{priority: 10, poolRef: {{name: {pool}}}}}
"""


def test_objectives_of_one_name_for_two_pools() -> None:
    text = OBJECTIVE.format(pool="gemma") + "---\n" + OBJECTIVE.format(pool="gemma-new")
    decoded = decode(text.encode(), file="o.yaml")
    assert decoded.problems == ()
    resources, [warning] = assemble(decoded.entries)
    assert [objective.spec.pool_ref.name for objective in resources.objectives] == [
        "gemma",
        "gemma-new",
    ]
    assert (warning.severity, warning.line) == (Severity.WARNING, 6)
    assert "is defined at o.yaml:1 for another pool" in warning.message


def test_objectives_of_one_name_for_one_pool_conflict() -> None:
    text = OBJECTIVE.format(pool="gemma") + "---\n" + OBJECTIVE.format(pool="gemma")
    assert decode(text.encode(), file="o.yaml").has_errors


def test_versions_of_an_inference_model() -> None:
    """C4: in no released version of the kind."""
    text = """\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: llm}
spec:
  versions:
  - {modelName: llm-v1, poolRef: {name: p}}
"""
    (problem,) = decode(text.encode(), file="m.yaml").problems
    assert (problem.severity, problem.line, problem.field) == (Severity.WARNING, 5, "spec.versions")
    unset = text.replace("versions:\n  - {modelName: llm-v1, poolRef", "versions: null\n  ignored")
    assert not any("released" in one.message for one in decode(unset.encode(), file="m").problems)
