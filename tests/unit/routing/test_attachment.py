"""Whether a route attaches to a listener, and the reason when it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferway.resources import ResourceSet
from inferway.resources.references import LabelSelector
from inferway.routing.attachment import selects
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate

Load = Callable[[str], ResourceSet]

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: main, namespace: infra}
spec: {gatewayClassName: inferway, listeners: [LISTENER]}
---
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: NAMESPACE}
spec:
  parentRefs: [{name: main, namespace: infra PARENT}]
  hostnames: [HOSTNAMES]
"""


def translated(
    load: Load, *, listener: str, namespace: str = "infra", parent: str = "", hostnames: str = ""
) -> Translation:
    listener = "{name: http, port: 80, protocol: HTTP" + listener + "}"
    text = GATEWAY.replace("LISTENER", listener) + ROUTE.replace("NAMESPACE", namespace).replace(
        "PARENT", parent
    ).replace("HOSTNAMES", hostnames)
    return translate(load(text), settings=RoutingSettings())


def outcome(translation: Translation) -> tuple[str, int]:
    """Reason of the route's Accepted condition, and the listener's attachedRoutes."""
    by_kind = {status.key.kind: status for status in translation.statuses}
    (parent,) = by_kind["HTTPRoute"].parents
    accepted = parent.conditions[0]
    assert accepted.type == "Accepted"
    assert (accepted.status == "True") == (accepted.reason == "Accepted")
    served = any(host.routes for listener in translation.model.listeners for host in listener.hosts)
    assert served == (accepted.reason == "Accepted")
    return accepted.reason, by_kind["Gateway"].listeners[0].attached_routes


@pytest.mark.parametrize(
    ("listener", "arguments", "reason", "attached"),
    [
        ("", {}, "Accepted", 1),
        ("", {"parent": ", sectionName: http, port: 80"}, "Accepted", 1),
        ("", {"parent": ", sectionName: https"}, "NoMatchingParent", 0),
        ("", {"parent": ", port: 81"}, "NoMatchingParent", 0),
        ("", {"parent": ", sectionName: http, port: 81"}, "NoMatchingParent", 0),
        ("", {"namespace": "other"}, "NotAllowedByListeners", 0),
        (
            ", allowedRoutes: {namespaces: {from: All}}",
            {"namespace": "other"},
            "Accepted",
            1,
        ),
        (
            (
                ", allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: "
                "[{key: kubernetes.io/metadata.name, operator: In, values: [a, b]}]}}}"
            ),
            {"namespace": "b"},
            "Accepted",
            1,
        ),
        (
            ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: x}}}}",
            {},
            "NotAllowedByListeners",
            0,
        ),
        (", allowedRoutes: {kinds: [{kind: TCPRoute}]}", {}, "NotAllowedByListeners", 0),
        (", hostname: a.org", {"hostnames": "a.org"}, "Accepted", 1),
        (", hostname: a.org", {"hostnames": '"*.org"'}, "Accepted", 1),
        (", hostname: a.org", {"hostnames": "b.org"}, "NoMatchingListenerHostname", 0),
        (', hostname: "*.org"', {"hostnames": "org"}, "NoMatchingListenerHostname", 0),
    ],
)
def test_attachment(
    load: Load, listener: str, arguments: dict[str, str], reason: str, attached: int
) -> None:
    found = outcome(translated(load, listener=listener, **arguments))
    assert found == (reason, attached)


def test_kinds_that_include_ours_are_enough(load: Load) -> None:
    listener = ", allowedRoutes: {kinds: [{kind: GRPCRoute}, {kind: HTTPRoute}]}"
    translation = translated(load, listener=listener)
    assert outcome(translation) == ("Accepted", 1)
    gateway = next(one for one in translation.statuses if one.key.kind == "Gateway")
    (status,) = gateway.listeners
    assert [kind.kind for kind in status.supported_kinds] == ["HTTPRoute"]
    reasons = {one.type: one.reason for one in status.conditions}
    assert reasons["ResolvedRefs"] == "InvalidRouteKinds"


LABELS = {"team": "genai", "tier": "gold"}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {"team": "genai"}}, True),
        ({"matchLabels": {"team": "genai", "tier": "silver"}}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["gold"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, True),
        (
            {
                "matchLabels": {"team": "genai"},
                "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}],
            },
            False,
        ),
    ],
)
def test_label_selectors(selector: dict[str, object], selected: bool) -> None:
    assert selects(LabelSelector.model_validate(selector), LABELS) is selected
