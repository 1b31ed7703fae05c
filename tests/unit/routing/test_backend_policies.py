"""Which policy counts for a backend, what it changes, and what is said about the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from inferway.resources import ResourceSet
from inferway.routing.health import DEFAULT_HEALTH_CHECK, CheckKind
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate

if TYPE_CHECKING:
    from inferway.routing.health import HealthCheck

Load = Callable[[str], ResourceSet]

BACKENDS = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llm}
spec: {selector: {matchLabels: {app: llm}}, targetPorts: [{number: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: one, labels: {app: llm}}
spec: {addresses: [{host: 10.0.0.1, port: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
  - backendRefs:
    - {name: web, port: 80}
    - {group: inferway.dev, kind: ModelServer, name: one}
    - {group: inference.networking.k8s.io, kind: InferencePool, name: llm}
"""
POOL = "{group: inference.networking.k8s.io, kind: InferencePool, name: llm}"


def policy(name: str, default: str, *, target: str = POOL, kind: str = "", extra: str = "") -> str:
    return f"""
---
apiVersion: networking.gke.io/v1
kind: {kind or "HealthCheckPolicy"}
metadata: {{name: {name}{extra}}}
spec: {{targetRef: {target}, default: {default}}}
"""


def translated(load: Load, *policies: str) -> Translation:
    return translate(load(BACKENDS + "".join(policies)), settings=RoutingSettings())


def accepted(translation: Translation) -> dict[str, tuple[str, str, str]]:
    """Status, reason and message of every policy."""
    found = {}
    for status in translation.statuses:
        if status.key.group == "networking.gke.io":
            [one] = status.conditions
            found[status.key.name] = (one.status.value, one.reason, one.message)
    return found


def pool_check(translation: Translation) -> HealthCheck:
    return translation.model.pools["default/llm"].health


def test_without_a_policy_everything_is_checked(load: Load) -> None:
    model = translated(load).model
    backends = [*model.pools.values(), *model.server_groups.values()]
    assert len(backends) == 3
    assert {one.health for one in backends} == {DEFAULT_HEALTH_CHECK}


def test_a_policy_changes_what_it_names(load: Load) -> None:
    text = (
        "{checkIntervalSec: 7, timeoutSec: 6, healthyThreshold: 5, unhealthyThreshold: 4, "
        "config: {type: HTTP, httpHealthCheck: {requestPath: /ready, port: 9000, host: h}}}"
    )
    check = pool_check(translated(load, policy("p", text)))
    assert (check.interval_s, check.timeout_s) == (7.0, 6.0)
    assert (check.healthy_threshold, check.unhealthy_threshold) == (5, 4)
    assert (check.path, check.port, check.host, check.status_max) == ("/ready", 9000, "h", 299)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("{type: TCP}", (CheckKind.TCP, None, None)),
        ("{type: GRPC, grpcHealthCheck: {port: 9003}}", (CheckKind.GRPC, 9003, None)),
        ("{type: HTTP2}", (CheckKind.HTTP, None, True)),
        (
            "{type: HTTP, httpHealthCheck: {portSpecification: USE_SERVING_PORT, port: 1}}",
            (CheckKind.HTTP, None, None),
        ),
    ],
)
def test_kinds_of_checks(load: Load, config: str, expected: tuple[object, ...]) -> None:
    check = pool_check(translated(load, policy("p", f"{{config: {config}}}")))
    assert (check.kind, check.port, check.http2) == expected


@pytest.mark.parametrize(
    ("target", "group"),
    [
        ("{group: '', kind: Service, name: web}", "service/default/web:80"),
        ("{group: inferway.dev, kind: ModelServer, name: one}", "default/one"),
    ],
)
def test_plain_backends_have_policies_too(load: Load, target: str, group: str) -> None:
    model = translated(
        load,
        policy("h", "{timeoutSec: 9}", target=target),
        policy("t", "{timeoutSec: 30}", target=target, kind="GCPBackendPolicy"),
    ).model
    assert {name for name, one in model.server_groups.items() if one.health.timeout_s == 9} == {
        group
    }
    assert model.server_groups[group].backend_timeout_s == 30.0
    assert model.pools["default/llm"].backend_timeout_s is None


def test_of_two_policies_the_oldest_counts(load: Load) -> None:
    translation = translated(
        load,
        policy("a", "{timeoutSec: 1}"),
        policy("b", "{timeoutSec: 2}", extra=", creationTimestamp: 2025-02-01T00:00:00Z"),
        policy("c", "{timeoutSec: 3}", extra=", creationTimestamp: 2025-01-01T00:00:00Z"),
    )
    assert pool_check(translation).timeout_s == 3.0
    found = accepted(translation)
    assert found["c"][:2] == ("True", "Accepted")
    assert found["a"][:2] == found["b"][:2] == ("False", "Conflicted")
    assert "default/c" in found["a"][2]


@pytest.mark.parametrize(
    ("target", "default", "reason"),
    [
        (POOL.replace("llm", "other"), "{}", "TargetNotFound"),
        (POOL.replace("InferencePool", "Gateway"), "{}", "InvalidKind"),
        (POOL, "{config: {type: HTTPS}}", "UnsupportedValue"),
    ],
)
def test_what_is_not_accepted(load: Load, target: str, default: str, reason: str) -> None:
    translation = translated(load, policy("p", default, target=target))
    assert accepted(translation)["p"][:2] == ("False", reason)
    assert pool_check(translation) == DEFAULT_HEALTH_CHECK


def test_fields_without_effect_are_named(load: Load) -> None:
    text = "{timeoutSec: 5, securityPolicy: waf, iap: {enabled: true}, logging: {enabled: false}}"
    translation = translated(load, policy("p", text, kind="GCPBackendPolicy"))
    status, _reason, message = accepted(translation)["p"]
    assert status == "True"
    fields = ["spec.default.logging", "spec.default.securityPolicy", "spec.default.iap"]
    assert message == f"no effect here: {', '.join(fields)}"
    named = [one.field for one in translation.warnings if one.key and one.key.name == "p"]
    assert named == fields
