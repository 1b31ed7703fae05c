"""Edges of translation that the golden cases do not show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferway.resources import ResourceSet
from inferway.routing.model import MatchKind, Route, Target, TargetKind
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate

Load = Callable[[str], ResourceSet]

SERVER = """
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: NAME, namespace: NAMESPACE, labels: {LABELS}}
spec: {addresses: [ADDRESSES]}
---
"""
POOL = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: gemma, annotations: {ANNOTATIONS}}
spec:
  selector: {matchLabels: {app: gemma, tier: gold}}
  targetPorts: [{number: 8000}, {number: 8001}]
  EXTRA
---
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec:
  rules: [RULES]
---
"""


def server(
    name: str = "one",
    *,
    namespace: str = "default",
    labels: str = "app: gemma, tier: gold",
    addresses: str = "{host: 10.0.0.1}",
) -> str:
    text = SERVER.replace("NAMESPACE", namespace).replace("NAME", name)
    return text.replace("LABELS", labels).replace("ADDRESSES", addresses)


def pool(*, annotations: str = "", extra: str = "") -> str:
    return POOL.replace("ANNOTATIONS", annotations).replace("EXTRA", extra)


def route(rules: str) -> str:
    return ROUTE.replace("RULES", rules)


def translated(load: Load, *texts: str) -> Translation:
    return translate(load("".join(texts)), settings=RoutingSettings())


def routes(translation: Translation) -> tuple[Route, ...]:
    return translation.model.listeners[0].hosts[0].routes


def condition(translation: Translation, kind: str, type_: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition of the only object of that kind."""
    (status,) = [one for one in translation.statuses if one.key.kind == kind]
    conditions = (*status.conditions, *(one for at in status.parents for one in at.conditions))
    (found,) = [one for one in conditions if one.type == type_]
    return found.status.value, found.reason, found.message


def test_selector_wants_all_labels_in_the_pools_namespace(load: Load) -> None:
    translation = translated(
        load,
        server("all-labels", labels="app: gemma, tier: gold, rack: a"),
        server("one-label", labels="app: gemma"),
        server("other-value", labels="app: gemma, tier: silver"),
        server("other-namespace", namespace="elsewhere"),
        pool(),
    )
    endpoints = translation.model.pools["default/gemma"].endpoints
    assert [(one.server, one.port) for one in endpoints] == [
        ("default/all-labels", 8000),
        ("default/all-labels", 8001),
    ]


def test_endpoints_stand_by_server_name_then_as_written(load: Load) -> None:
    translation = translated(
        load,
        server("b", addresses="{host: 10.0.0.9}, {host: 10.0.0.2, port: 9}"),
        server("a", addresses="{host: 10.0.0.9, port: 8001}"),
        pool(),
    )
    endpoints = translation.model.pools["default/gemma"].endpoints
    assert [(one.host, one.port, one.server) for one in endpoints] == [
        ("10.0.0.9", 8001, "default/a"),
        ("10.0.0.9", 8000, "default/b"),
        ("10.0.0.2", 9, "default/b"),
    ]


PICKER = "endpointPickerRef: {name: epp, port: {number: 9002}"


@pytest.mark.parametrize(
    ("annotation", "extra", "fail_open"),
    [
        ("", "", True),
        ("inferway.dev/failure-mode: FailOpen", "", True),
        ("inferway.dev/failure-mode: FailClose", "", False),
        ("", PICKER + "}", False),
        ("", PICKER + ", failureMode: FailOpen}", True),
        ("inferway.dev/failure-mode: FailOpen", PICKER + "}", False),
        ("inferway.dev/picker: built-in", PICKER + "}", False),
    ],
)
def test_failure_mode(load: Load, annotation: str, extra: str, fail_open: bool) -> None:
    translation = translated(load, server(), pool(annotations=annotation, extra=extra))
    assert translation.model.pools["default/gemma"].fail_open is fail_open


SERVER_REF = "{group: inferway.dev, kind: ModelServer, name: one PORT}"


@pytest.mark.parametrize(
    ("addresses", "port", "group", "ports"),
    [
        ("{host: 10.0.0.1, port: 8000}", "", "default/one", [8000]),
        ("{host: 10.0.0.1, port: 8000}", ", port: 9", "default/one", [8000]),
        ("{host: 10.0.0.1}", ", port: 9", "default/one:9", [9]),
        ("{host: 10.0.0.1}, {host: 10.0.0.2, port: 1}", ", port: 9", "default/one:9", [9, 1]),
    ],
)
def test_plain_backend(load: Load, addresses: str, port: str, group: str, ports: list[int]) -> None:
    translation = translated(
        load,
        server(addresses=addresses),
        route("{backendRefs: [" + SERVER_REF.replace("PORT", port) + "]}"),
    )
    assert routes(translation)[0].targets == (Target(TargetKind.SERVERS, group, 1),)
    assert list(translation.model.server_groups) == [group]
    endpoints = translation.model.server_groups[group].endpoints
    assert [one.port for one in endpoints] == ports


def test_plain_backend_without_any_port_does_not_resolve(load: Load) -> None:
    translation = translated(
        load, server(), route("{backendRefs: [" + SERVER_REF.replace("PORT", "") + "]}")
    )
    assert [one.kind for one in routes(translation)[0].targets] == [TargetKind.ERROR]
    assert condition(translation, "HTTPRoute", "ResolvedRefs") == (
        "False",
        "BackendNotFound",
        (
            "spec.rules[0].backendRefs[0]: ModelServer default/one has an address without port: "
            "set port there or here"
        ),
    )


def test_bad_expression_refuses_the_route(load: Load) -> None:
    rule = "{matches: [{path: {type: RegularExpression, value: '/(a'}}]}"
    translation = translated(load, route(rule))
    assert routes(translation) == ()
    status, reason, message = condition(translation, "HTTPRoute", "Accepted")
    assert (status, reason) == ("False", "UnsupportedValue")
    assert message.startswith("not supported: spec.rules[0].matches[0].path.value (/(a: ")


def test_equivalent_header_names_count_once_and_the_first_decides(load: Load) -> None:
    match = "{headers: [{name: X-Model, value: a}, {name: x-model, value: b}]}"
    translation = translated(load, route("{matches: [" + match + "]}"))
    (header,) = routes(translation)[0].match.headers
    assert (header.name, header.kind, header.value) == ("x-model", MatchKind.EXACT, "a")


@pytest.mark.parametrize(
    ("timeouts", "request_s", "backend_s"),
    [
        ("", None, None),
        ("timeouts: {request: 0s}", 0.0, None),
        ("timeouts: {request: 10s, backendRequest: 500ms}", 10.0, 0.5),
    ],
)
def test_timeouts(
    load: Load, timeouts: str, request_s: float | None, backend_s: float | None
) -> None:
    (entry,) = routes(translated(load, route("{" + timeouts + "}")))
    assert (entry.request_timeout_s, entry.backend_timeout_s) == (request_s, backend_s)


def test_route_without_parents_needs_the_assumed_gateway(load: Load) -> None:
    gateway = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: main}
spec: {gatewayClassName: inferway, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
"""
    assert routes(translated(load, route("{}")))
    alone = translated(load, gateway, route("{}"))
    assert not routes(alone)
    assert any("names no parent" in one.message for one in alone.warnings)


def test_assumed_gateway_does_not_depend_on_classes(load: Load) -> None:
    taken = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: inferway}
spec: {controllerName: example.com/other}
---
"""
    translation = translated(load, taken, server(), pool())
    assert [one.name for one in routes(translation)] == ["default/gemma/0/0"]


def test_assumed_gateway_listens_where_settings_say(load: Load) -> None:
    settings = RoutingSettings(listen_address="0.0.0.0", port=9999)
    (listener,) = translate(load(server() + pool()), settings=settings).model.listeners
    assert (listener.address, listener.port) == ("0.0.0.0", 9999)


def test_nothing_at_all(load: Load) -> None:
    translation = translated(load)
    assert [one.address for one in translation.model.listeners] == ["127.0.0.1"]
    assert routes(translation) == ()
    assert [one.key.kind for one in translation.statuses] == ["Gateway"]
