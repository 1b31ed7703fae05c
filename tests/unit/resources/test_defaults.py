"""What an object is when little is written: the defaults of the upstream CRDs."""

import pytest

from inferway.resources import (
    Gateway,
    GatewayClass,
    HTTPRoute,
    InferenceObjective,
    InferencePool,
    ModelServer,
    Object,
)
from inferway.resources.decode import decode
from inferway.resources.http_route import PathMatch, RouteMatch, RouteTimeouts
from inferway.resources.kinds import BY_KIND
from inferway.resources.model_server import normalise_host
from inferway.resources.scalars import duration_s


def read(kind: str, spec: str, metadata: str = "name: one") -> Object:
    version = BY_KIND[kind].api_versions[0]
    text = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n"
    decoded = decode(text.encode(), file="m.yaml")
    assert decoded.problems == ()
    return decoded.entries[0].resource


def test_metadata() -> None:
    server = read("ModelServer", "{addresses: [{host: a}]}")
    metadata = server.metadata
    assert (metadata.namespace, metadata.generation, metadata.uid) == ("default", 1, None)
    assert (metadata.labels, metadata.annotations) == ({}, {})
    assert server.qualified_name == "default/one"


def test_gateway_class_is_cluster_scoped() -> None:
    gateway_class = read("GatewayClass", "{controllerName: inferway.dev/gateway}")
    assert isinstance(gateway_class, GatewayClass)
    assert gateway_class.qualified_name == "one"
    assert gateway_class.key.namespace == ""


def test_gateway() -> None:
    gateway = read(
        "Gateway",
        "{gatewayClassName: c, listeners: [{name: a, port: 80, protocol: HTTP}, "
        "{name: b, port: 443, protocol: https, tls: {certificateRefs: [{name: s}]}}]}",
    )
    assert isinstance(gateway, Gateway)
    plain, secure = gateway.spec.listeners
    assert plain.allowed_routes.namespaces.from_ == "Same"
    assert (plain.allowed_routes.kinds, plain.hostname, plain.tls) == ((), None, None)
    assert secure.protocol_upper == "HTTPS"
    assert secure.tls is not None
    assert secure.tls.mode == "Terminate"
    assert secure.tls.certificate_refs[0].kind == "Secret"


def test_http_route_without_rules_matches_everything() -> None:
    route = read("HTTPRoute", "{}")
    assert isinstance(route, HTTPRoute)
    [rule] = route.spec.rules
    assert rule.matches == (RouteMatch(path=PathMatch(type="PathPrefix", value="/")),)
    assert rule.backend_refs == ()


@pytest.mark.parametrize("matches", ["", "matches: [], ", "matches: null, ", "matches: [{}], "])
def test_a_rule_without_conditions_matches_everything(matches: str) -> None:
    backend = "{group: inference.networking.k8s.io, kind: InferencePool, name: p}"
    route = read("HTTPRoute", f"{{rules: [{{{matches}backendRefs: [{backend}]}}]}}")
    assert isinstance(route, HTTPRoute)
    assert route.spec.rules[0].matches == (RouteMatch(),)
    assert route.spec.rules[0].backend_refs[0].weight == 1


def test_references_of_a_route() -> None:
    route = read(
        "HTTPRoute",
        "{parentRefs: [{name: gw}], rules: [{matches: [{headers: [{name: h, value: v}]}], "
        "backendRefs: [{name: s, port: 80}], "
        "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}, "
        "fraction: {numerator: 1}}}]}]}",
    )
    assert isinstance(route, HTTPRoute)
    parent = route.spec.parent_refs[0]
    assert (parent.group, parent.kind, parent.namespace) == (
        "gateway.networking.k8s.io",
        "Gateway",
        None,
    )
    backend = route.spec.rules[0].backend_refs[0]
    assert (backend.group, backend.kind) == ("", "Service")
    assert route.spec.rules[0].matches[0].headers[0].type == "Exact"
    mirror = route.spec.rules[0].filters[0].request_mirror
    assert mirror is not None
    assert mirror.fraction is not None
    assert mirror.fraction.denominator == 100


def test_inference_pool() -> None:
    pool = read("InferencePool", "{selector: {matchLabels: {a: b}}, targetPorts: [{number: 80}]}")
    assert isinstance(pool, InferencePool)
    assert (pool.spec.app_protocol, pool.spec.endpoint_picker_ref) == ("http", None)
    assert not pool.picker_is_built_in
    picked = read(
        "InferencePool",
        "{selector: {matchLabels: {a: b}}, targetPorts: [{number: 80}], "
        "endpointPickerRef: {name: epp, port: {number: 9002}}}",
        "name: one, annotations: {inferway.dev/picker: built-in}",
    )
    assert isinstance(picked, InferencePool)
    reference = picked.spec.endpoint_picker_ref
    assert reference is not None
    assert (reference.group, reference.kind, reference.failure_mode) == ("", "Service", "FailClose")
    assert picked.picker_is_built_in


@pytest.mark.parametrize(("written", "priority"), [("", 0), ("priority: -5, ", -5)])
def test_inference_objective(written: str, priority: int) -> None:
    objective = read("InferenceObjective", f"{{{written}poolRef: {{name: p}}}}")
    assert isinstance(objective, InferenceObjective)
    assert objective.priority == priority
    assert objective.spec.pool_ref.group == "inference.networking.k8s.io"
    assert objective.spec.pool_ref.kind == "InferencePool"


def test_model_server() -> None:
    server = read("ModelServer", "{addresses: [{host: gpu-1.example.com}, {host: '::1', port: 1}]}")
    assert isinstance(server, ModelServer)
    assert (server.spec.engine, server.spec.metrics_path) == ("vllm", "/metrics")
    assert [(address.host, address.port) for address in server.spec.addresses] == [
        ("gpu-1.example.com", None),
        ("::1", 1),
    ]


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("2001:db8:0:0::1", "2001:db8::1"),
        ("GPU-1.Example.com.", "gpu-1.example.com"),
        ("localhost", "localhost"),
        ("1gpu", "1gpu"),
    ],
)
def test_hosts_are_normalised(written: str, host: str) -> None:
    assert normalise_host(written) == host


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("300s", 300), ("1h30m", 5400), ("1m500ms", 60.5), ("10ms20s", 20.01)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds
    assert RouteTimeouts(request=text).request_s == seconds


def test_a_manifest_reads_back_as_the_same_object() -> None:
    route = read("HTTPRoute", "{parentRefs: [{name: gw}], rules: [{timeouts: {request: 1m}}]}")
    assert isinstance(route, HTTPRoute)
    assert HTTPRoute.model_validate(route.manifest()) == route
    assert "hostname" not in str(route.manifest()["spec"]).replace("hostnames", "")
