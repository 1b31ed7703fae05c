"""Which filters and sessions are refused, one table row each, and what they name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferway.resources import ResourceSet
from inferway.routing.features import CarrierKind, PathChange, PathChangeKind, Session, Stickiness
from inferway.routing.model import Route, TargetKind
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate

Load = Callable[[str], ResourceSet]

MANIFESTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, annotations: {ANNOTATIONS}}
spec: {rules: [RULE]}
---
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: a}
spec: {addresses: [{host: 10.0.0.1, port: 1}]}
"""
TO_A = "{group: inferway.dev, kind: ModelServer, name: a}"


def translated(load: Load, rule: str, annotations: str = "") -> Translation:
    text = MANIFESTS.replace("ANNOTATIONS", annotations).replace("RULE", rule)
    return translate(load(text), settings=RoutingSettings())


def verdict(translation: Translation, kind: str) -> tuple[str, str]:
    (status,) = [one for one in translation.statuses if one.key.kind == "HTTPRoute"]
    (condition,) = [one for one in status.parents[0].conditions if one.type == kind]
    return condition.reason, condition.message


def entry(translation: Translation) -> Route:
    return translation.model.listeners[0].hosts[0].routes[0]


def request(modifier: str) -> str:
    return f"{{type: RequestHeaderModifier, requestHeaderModifier: {modifier}}}"


def response(modifier: str) -> str:
    return f"{{type: ResponseHeaderModifier, responseHeaderModifier: {modifier}}}"


REFUSED = {
    request("{set: [{name: X-Gateway-Model-Name, value: a}]}"): "requestHeaderModifier.set[0]",
    request("{add: [{name: x-gateway-destination-endpoint, value: a}]}"): "add[0]",
    request("{remove: [x-gateway-destination-endpoint-served]}"): "remove[0]",
    request("{set: [{name: x-gateway-inference-objective, value: a}]}"): "set[0]",
    request("{remove: [x-llm-d-inference-fairness-id]}"): "remove[0]",
    request("{set: [{name: X-Envoy-Max-Retries, value: '9'}]}"): "set[0]",
    request("{set: [{name: Host, value: a}]}"): "URLRewrite",
    request("{set: [{name: content-length, value: '1'}]}"): "belongs to the connection",
    request('{set: [{name: x-a, value: "a\\r\\nb: c"}]}'): "control characters",
    request("{remove: ['']}"): "not a header name",
    response("{remove: [Transfer-Encoding]}"): "responseHeaderModifier.remove[0]",
    "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/a b'}}}": (
        "urlRewrite.path"
    ),
    "{type: CORS, cors: {allowCredentials: true, exposeHeaders: ['*']}}": "cors.exposeHeaders",
}


@pytest.mark.parametrize("written", REFUSED)
@pytest.mark.parametrize("place", ["rule", "backend"])
def test_refused_filters(load: Load, written: str, place: str) -> None:
    own = f", filters: [{written}]"
    rule = f"filters: [{written}], backendRefs: [{TO_A}]"
    field = "spec.rules[0].filters[0]."
    if place == "backend":
        rule = f"backendRefs: [{TO_A.replace('}', own + '}')}]"
        field = "spec.rules[0].backendRefs[0].filters[0]."
    translation = translated(load, f"{{{rule}}}")
    reason, message = verdict(translation, "Accepted")
    assert reason == "UnsupportedValue"
    assert message.startswith(f"not supported: {field}")
    assert REFUSED[written] in message
    assert translation.model.listeners[0].hosts[0].routes == ()


@pytest.mark.parametrize(
    "written",
    [
        response("{set: [{name: X-Gateway-Model-Name, value: shown}]}"),
        request("{set: [{name: x-gateway, value: a}], remove: [cookie]}"),
        "{type: CORS, cors: {allowOrigins: ['*'], allowHeaders: ['*']}}",
    ],
)
def test_filters_that_are_fine(load: Load, written: str) -> None:
    translation = translated(load, f"{{filters: [{written}], backendRefs: [{TO_A}]}}")
    assert verdict(translation, "Accepted") == ("Accepted", "")


REFUSED_SESSIONS = {
    "{idleTimeout: 1m}": "idleTimeout",
    "{absoluteTimeout: 1m}": "absoluteTimeout",
    "{absoluteTimeout: 0s, cookieConfig: {lifetimeType: Permanent}}": "0 s",
    "{type: Header, absoluteTimeout: 1m}": "absoluteTimeout",
    "{type: Header, cookieConfig: {}}": "cookieConfig",
    "{type: Header, sessionName: X-Gateway-Model-Name}": "sessionName",
    "{sessionName: 'a b'}": "sessionName",
}


@pytest.mark.parametrize("written", REFUSED_SESSIONS)
def test_refused_sessions(load: Load, written: str) -> None:
    rule = f"{{sessionPersistence: {written}, backendRefs: [{TO_A}]}}"
    reason, message = verdict(translated(load, rule), "Accepted")
    assert reason == "UnsupportedValue"
    assert message.startswith("not supported: spec.rules[0].sessionPersistence.")
    assert REFUSED_SESSIONS[written] in message


def test_a_header_session_needs_one_backend(load: Load) -> None:
    idle = TO_A.replace("}", ", weight: 0}")
    for backends, reason in (
        (f"{TO_A}, {TO_A}", "UnsupportedValue"),
        (f"{TO_A}, {idle}", "Accepted"),
    ):
        rule = f"{{sessionPersistence: {{type: Header}}, backendRefs: [{backends}]}}"
        assert verdict(translated(load, rule), "Accepted")[0] == reason


def test_sessions_have_names_of_their_own(load: Load) -> None:
    rule = "{sessionPersistence: {}, matches: [{path: {value: /PATH}}]}"
    both = f"{rule.replace('PATH', 'a')}, {rule.replace('PATH', 'b')}"
    routes = translated(load, both).model.listeners[0].hosts[0].routes
    first, second = (route.session for route in routes)
    assert first is not None
    assert second is not None
    assert first.name != second.name
    assert first == Session(CarrierKind.COOKIE, first.name, None)


@pytest.mark.parametrize(
    ("annotation", "stickiness"),
    [
        ("header:X-User", Stickiness(CarrierKind.HEADER, "x-user")),
        ("cookie:Sid", Stickiness(CarrierKind.COOKIE, "Sid")),
        ("cookie:", None),
        ("query:a", None),
        ("x-user", None),
    ],
)
def test_sticky_annotation(load: Load, annotation: str, stickiness: Stickiness | None) -> None:
    written = f"inferway.dev/sticky-weights: '{annotation}'"
    translation = translated(load, f"{{backendRefs: [{TO_A}]}}", written)
    assert entry(translation).stickiness == stickiness
    warned = [one for one in translation.warnings if "sticky" in one.field]
    assert bool(warned) is (stickiness is None)
    assert verdict(translation, "Accepted")[0] == "Accepted"


def test_a_mirror_that_leads_nowhere_does_not_keep_the_route_from_serving(load: Load) -> None:
    missing = "{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 1}}}"
    translation = translated(load, f"{{filters: [{missing}], backendRefs: [{TO_A}]}}")
    assert verdict(translation, "Accepted")[0] == "Accepted"
    reason, message = verdict(translation, "ResolvedRefs")
    assert reason != "ResolvedRefs"
    assert message.startswith("spec.rules[0].filters[0].requestMirror.backendRef: ")
    route = entry(translation)
    assert [one.kind for one in route.targets] == [TargetKind.SERVERS]
    assert route.filters is not None
    assert route.filters.mirrors == ()


@pytest.mark.parametrize(
    ("written", "kind", "value"),
    [
        ("{type: ReplacePrefixMatch, replacePrefixMatch: ''}", PathChangeKind.PREFIX, "/"),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: /a/}", PathChangeKind.PREFIX, "/a"),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: a}", PathChangeKind.PREFIX, "/a"),
        ("{type: ReplaceFullPath, replaceFullPath: ''}", PathChangeKind.FULL, "/"),
        ("{type: ReplaceFullPath, replaceFullPath: /a/}", PathChangeKind.FULL, "/a/"),
    ],
)
def test_paths_start_with_a_slash(
    load: Load, written: str, kind: PathChangeKind, value: str
) -> None:
    rewrite = f"{{type: URLRewrite, urlRewrite: {{path: {written}}}}}"
    route = entry(translated(load, f"{{filters: [{rewrite}], backendRefs: [{TO_A}]}}"))
    assert route.filters is not None
    assert route.filters.rewrite is not None
    assert route.filters.rewrite.path == PathChange(kind, value)
