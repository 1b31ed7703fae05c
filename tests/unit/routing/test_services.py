"""What stands behind a port of a Service, and which references may leave their namespace."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferway.resources import EndpointSlice, ModelServer, ReferenceGrant, ResourceSet, Service
from inferway.routing.grants import Grants, Referent, gateway_in, route_in
from inferway.routing.namespaces import NamespaceLabels
from inferway.routing.pools import ServerIndex
from inferway.routing.services import ServiceEndpoints, Services
from inferway.routing.status import Refusal

Load = Callable[[str], ResourceSet]

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: SPEC
---
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: PORTS
endpoints: ENDPOINTS
---
"""
SERVER = """
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: one, labels: {app: x}}
spec: {addresses: [{host: 10.0.0.1}, {host: 10.0.0.2, port: 9000}]}
---
"""


def services(resources: ResourceSet) -> Services:
    return Services(
        resources.of_kind(Service),
        resources.of_kind(EndpointSlice),
        ServerIndex(resources.of_kind(ModelServer)),
    )


def places(load: Load, text: str, *, port: int = 80) -> list[str]:
    found = services(load(text)).find("default/web", port)
    assert isinstance(found, ServiceEndpoints)
    return [f"{one.host}:{one.port}" for one in found.endpoints]


def sliced(ports: str, endpoints: str, *, spec: str = "{ports: [{port: 80}]}") -> str:
    slice_ = SLICE.replace("PORTS", ports).replace("ENDPOINTS", endpoints)
    return SERVICE.replace("SPEC", spec) + slice_


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        # Unknown readiness counts as ready.
        ("[{addresses: [10.0.0.1]}]", ["10.0.0.1:8000"]),
        (
            "[{addresses: [10.0.0.1], conditions: {ready: false}}, {addresses: [10.0.0.2]}]",
            ["10.0.0.2:8000"],
        ),
        # While one is ready, those that are ending get no new requests.
        (
            (
                "[{addresses: [10.0.0.1], conditions: {ready: false, serving: true, "
                "terminating: true}}, {addresses: [10.0.0.2], conditions: {ready: true}}]"
            ),
            ["10.0.0.2:8000"],
        ),
        # With none ready, what is ending but still serves is better than nothing.
        (
            (
                "[{addresses: [10.0.0.1], conditions: {ready: false, serving: true, "
                "terminating: true}}, {addresses: [10.0.0.2], conditions: {ready: false, "
                "serving: false, terminating: true}}]"
            ),
            ["10.0.0.1:8000"],
        ),
        # Not ready and not ending: starting. It serves nothing yet.
        ("[{addresses: [10.0.0.1], conditions: {ready: false, serving: true}}]", []),
        ("[]", []),
        # The first address of an endpoint is the one to use; one place counts once.
        ("[{addresses: [10.0.0.1, 10.0.0.2]}, {addresses: [10.0.0.1]}]", ["10.0.0.1:8000"]),
    ],
)
def test_which_endpoints_of_a_slice_count(load: Load, endpoints: str, expected: list[str]) -> None:
    assert places(load, sliced("[{port: 8000}]", endpoints)) == expected


@pytest.mark.parametrize(
    ("ports", "spec", "port", "expected"),
    [
        # By the port's name, never by number.
        (
            "[{name: a, port: 1}, {name: b, port: 2}]",
            "{ports: [{name: a, port: 80}, {name: b, port: 81}]}",
            81,
            ["10.0.0.1:2"],
        ),
        ("[{name: a, port: 1}]", "{ports: [{port: 80}]}", 80, []),
        ("[{port: 1, protocol: UDP}]", "{ports: [{port: 80}]}", 80, []),
        ("[{}]", "{ports: [{port: 80, targetPort: 8080}]}", 80, ["10.0.0.1:8080"]),
        ("[{}]", "{ports: [{port: 80, targetPort: web}]}", 80, []),
        # TCP is meant where one number has both.
        (
            "[{name: t, port: 1}, {name: u, port: 2, protocol: UDP}]",
            "{ports: [{name: u, port: 80, protocol: UDP}, {name: t, port: 80}]}",
            80,
            ["10.0.0.1:1"],
        ),
    ],
)
def test_ports_of_slices(load: Load, ports: str, spec: str, port: int, expected: list[str]) -> None:
    text = sliced(ports, "[{addresses: [10.0.0.1]}]", spec=spec)
    assert places(load, text, port=port) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{selector: {app: x}, ports: [{port: 80}]}", ["10.0.0.1:80", "10.0.0.2:9000"]),
        (
            "{selector: {app: x}, ports: [{port: 80, targetPort: 8000}]}",
            ["10.0.0.1:8000", "10.0.0.2:9000"],
        ),
        # A ModelServer has no names for ports, so only its own numbers count.
        ("{selector: {app: x}, ports: [{port: 80, targetPort: web}]}", ["10.0.0.2:9000"]),
        ("{selector: {app: y}, ports: [{port: 80}]}", []),
        ("{ports: [{port: 80}]}", []),
    ],
)
def test_selected_model_servers(load: Load, spec: str, expected: list[str]) -> None:
    assert places(load, SERVICE.replace("SPEC", spec) + SERVER) == expected


def test_slices_stand_before_the_selector(load: Load) -> None:
    spec = "{selector: {app: x}, ports: [{port: 80}]}"
    text = sliced("[{port: 7}]", "[{addresses: [10.0.0.7]}]", spec=spec) + SERVER
    assert places(load, text) == ["10.0.0.7:7"]


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ("{ports: [{port: 81}]}", "BackendNotFound", "it has: 81"),
        ("{ports: [{port: 80, protocol: UDP}]}", "UnsupportedProtocol", "UDP"),
        ("{ports: [{port: 80, appProtocol: https}]}", "UnsupportedProtocol", "https"),
        ("{type: ExternalName, externalName: a.org}", "UnsupportedValue", "ExternalName"),
    ],
)
def test_what_cannot_be_a_backend(load: Load, spec: str, reason: str, words: str) -> None:
    found = services(load(SERVICE.replace("SPEC", spec))).find("default/web", 80)
    assert isinstance(found, Refusal)
    assert found.reason == reason
    assert words in found.message


@pytest.mark.parametrize(
    ("protocol", "h2c"),
    [("", False), (", appProtocol: http", False), (", appProtocol: kubernetes.io/h2c", True)],
)
def test_protocol_to_the_backend(load: Load, protocol: str, h2c: bool) -> None:
    text = SERVICE.replace("SPEC", f"{{ports: [{{port: 80{protocol}}}]}}")
    found = services(load(text)).find("default/web", 80)
    assert isinstance(found, ServiceEndpoints)
    assert found.h2c is h2c


GRANT = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: models}
spec:
  from:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: apps}
  - {group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}
  to: [TO]
"""
POOL = "{group: inference.networking.k8s.io, kind: InferencePool}"
INFERENCE = "inference.networking.k8s.io"


@pytest.mark.parametrize(
    ("to", "namespace", "referent", "permitted"),
    [
        (POOL, "apps", Referent(INFERENCE, "InferencePool", "models", "gemma"), True),
        # In its own namespace nobody needs leave.
        (POOL, "models", Referent("", "Service", "models", "web"), True),
        # The grant names the namespace that may refer, the kind, and perhaps the name.
        (POOL, "other", Referent(INFERENCE, "InferencePool", "models", "gemma"), False),
        (POOL, "infra", Referent(INFERENCE, "InferencePool", "models", "gemma"), False),
        (POOL, "apps", Referent("", "Service", "models", "web"), False),
        (POOL, "apps", Referent("", "InferencePool", "models", "gemma"), False),
        # It speaks for its own namespace only.
        (POOL, "apps", Referent(INFERENCE, "InferencePool", "third", "gemma"), False),
        (
            '{group: "", kind: Service, name: web}',
            "apps",
            Referent("", "Service", "models", "web"),
            True,
        ),
        (
            '{group: "", kind: Service, name: web}',
            "apps",
            Referent("", "Service", "models", "db"),
            False,
        ),
    ],
)
def test_grants_of_routes(
    load: Load, to: str, namespace: str, referent: Referent, permitted: bool
) -> None:
    grants = Grants(load(GRANT.replace("TO", to)).of_kind(ReferenceGrant))
    assert grants.permit(route_in(namespace), referent) is permitted


def test_a_grant_for_gateways_is_none_for_routes(load: Load) -> None:
    grants = Grants(load(GRANT.replace("TO", '{group: "", kind: Secret}')).of_kind(ReferenceGrant))
    secret = Referent("", "Secret", "models", "cert")
    assert grants.permit(gateway_in("infra"), secret)
    assert not grants.permit(route_in("infra"), secret)
    assert not grants.permit(gateway_in("apps"), secret)


def test_every_namespace_has_its_name_as_a_label(load: Load) -> None:
    from inferway.resources import Namespace

    text = "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {team: x}}}"
    labels = NamespaceLabels(load(text).of_kind(Namespace))
    assert labels.of("a") == {"team": "x", "kubernetes.io/metadata.name": "a"}
    assert labels.of("b") == {"kubernetes.io/metadata.name": "b"}
