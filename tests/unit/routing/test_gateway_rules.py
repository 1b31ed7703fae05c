"""Status of Gateways, listeners and routes, row by row from the rules of the Gateway API v1.

Every row states its rule. `{}` in an expectation means that nothing is asserted of that object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from inferway.resources import ResourceSet
from inferway.routing.settings import RoutingSettings
from inferway.routing.status import ProgrammingState, with_programming
from inferway.routing.translate import Translation, translate
from tests.certificates import issue

Load = Callable[[str], ResourceSet]
Conditions = dict[str, tuple[str, str]]

SETTINGS = RoutingSettings(unusable_addresses=frozenset({"192.0.2.1"}))
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra, generation: 7}
spec:
  gatewayClassName: inferway
  EXTRA
  listeners: [LISTENERS]
---
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: NAME, namespace: infra, generation: 3}
spec: SPEC
---
"""
WORLD = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: infra}
spec: {ports: [{name: http, port: 80}, {name: tls, port: 443, appProtocol: https}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: apps}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: infra, labels: {team: platform}}
---
""" + issue("a.org").secret("cert", namespace="infra")
HTTP = "{name: http, port: 80, protocol: HTTP}"
ACCEPTED = ("True", "Accepted")
PROGRAMMED = ("True", "Programmed")
RESOLVED = ("True", "ResolvedRefs")
QUIET = ("False", "NoConflicts")
GOOD: Conditions = {
    "Accepted": ACCEPTED,
    "Programmed": PROGRAMMED,
    "ResolvedRefs": RESOLVED,
    "Conflicted": QUIET,
}


OVERLAPS: Conditions = {**GOOD, "OverlappingTLSConfig": ("True", "OverlappingHostnames")}


def bad(reason: str, **more: tuple[str, str]) -> Conditions:
    """A listener that is not accepted."""
    return {**GOOD, "Accepted": ("False", reason), "Programmed": ("False", "Invalid"), **more}


@dataclass
class Row:
    rule: str
    listeners: str = HTTP
    extra: str = ""
    routes: tuple[str, ...] = ()
    gateway: Conditions = field(
        default_factory=lambda: {"Accepted": ACCEPTED, "Programmed": PROGRAMMED}
    )
    found: dict[str, Conditions] = field(default_factory=lambda: {"http": GOOD})
    attached: dict[str, int] = field(default_factory=dict)
    # Per route: the conditions of each of its parents.
    parents: tuple[tuple[Conditions, ...], ...] = ()


NOT_ALL: Conditions = {"Accepted": ("True", "ListenersNotValid"), "Programmed": PROGRAMMED}
NONE: Conditions = {"Accepted": ("False", "ListenersNotValid"), "Programmed": ("False", "Invalid")}


def tls(name: str, hostname: str, *, port: int = 443) -> str:
    host = f"hostname: {hostname}, " if hostname else ""
    return (
        f"{{name: {name}, {host}port: {port}, protocol: HTTPS, "
        "tls: {certificateRefs: [{name: cert}]}}"
    )


GATEWAYS = [
    Row("A Gateway with valid listeners is Accepted and Programmed"),
    Row(
        "Listeners on one port are distinct by protocol and hostname; HTTPS ones share a port",
        ", ".join([HTTP, tls("any", ""), tls("exact", "a.org"), tls("wild", '"*.a.org"')]),
        found={"http": GOOD},
    ),
    Row(
        "OverlappingTLSConfig: HTTPS listeners on one port whose hostnames overlap say so; others "
        "and those of other ports do not",
        ", ".join(
            [
                tls("exact", "x.a.org"),
                tls("wild", '"*.a.org"'),
                tls("apart", "b.org"),
                tls("elsewhere", '"*.a.org"', port=444),
            ]
        ),
        found={"exact": OVERLAPS, "wild": OVERLAPS, "apart": GOOD, "elsewhere": GOOD},
    ),
    Row(
        "UnsupportedProtocol: the listener's protocol is not supported; the others are served, and "
        "the Gateway says ListenersNotValid",
        f"{HTTP}, {{name: tcp, port: 81, protocol: TCP}}",
        gateway=NOT_ALL,
        found={"http": GOOD, "tcp": bad("UnsupportedProtocol")},
    ),
    Row(
        "The core protocols are HTTP, HTTPS, TLS, TCP and UDP; others carry a domain",
        f"{HTTP}, {{name: own, port: 81, protocol: example.com/quic}}",
        gateway=NOT_ALL,
        found={"own": bad("UnsupportedProtocol")},
    ),
    Row(
        "A Gateway none of whose listeners is valid is not Accepted",
        "{name: udp, port: 81, protocol: UDP}",
        gateway=NONE,
        found={"udp": bad("UnsupportedProtocol")},
    ),
    Row(
        "InvalidRouteKinds: ResolvedRefs is False; kinds that are known still attach",
        "{name: http, port: 80, protocol: HTTP, "
        "allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: TLSRoute}]}}",
        routes=("{parentRefs: [{name: edge}]}",),
        found={"http": {**GOOD, "ResolvedRefs": ("False", "InvalidRouteKinds")}},
        attached={"http": 1},
        parents=(({"Accepted": ACCEPTED},),),
    ),
    Row(
        "A hostname makes listeners on one port distinct, and none is a hostname of its own",
        f"{{name: one, port: 80, protocol: HTTP, hostname: a.org}}, {HTTP}",
        found={"one": GOOD, "http": GOOD},
    ),
    Row(
        "ProtocolConflict: one port cannot be HTTP and HTTPS",
        "{name: http, port: 443, protocol: HTTP}, " + tls("https", "a.org"),
        gateway=NONE,
        found={
            "http": bad("ProtocolConflict", Conflicted=("True", "ProtocolConflict")),
            "https": bad("ProtocolConflict", Conflicted=("True", "ProtocolConflict")),
        },
    ),
    Row(
        "InvalidCertificateRef: the listener is not Programmed, and its ResolvedRefs says why",
        "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: gone}]}}, "
        + HTTP,
        gateway=NOT_ALL,
        found={
            "http": GOOD,
            "https": {
                **GOOD,
                "Programmed": ("False", "Invalid"),
                "ResolvedRefs": ("False", "InvalidCertificateRef"),
            },
        },
    ),
    Row(
        "UnsupportedAddress: an address type that is not supported makes the Gateway not Accepted",
        extra="addresses: [{type: Hostname, value: a.org}]",
        gateway={"Accepted": ("False", "UnsupportedAddress"), "Programmed": ("False", "Invalid")},
        found={"http": bad("Invalid")},
    ),
    Row(
        "AddressNotUsable: an address that cannot be assigned makes the Gateway not Programmed",
        extra="addresses: [{value: 192.0.2.1}]",
        routes=("{parentRefs: [{name: edge}]}",),
        gateway={"Accepted": ACCEPTED, "Programmed": ("False", "AddressNotUsable")},
        found={"http": {**GOOD, "Programmed": ("False", "Invalid")}},
        attached={"http": 1},
        parents=(({"Accepted": ACCEPTED},),),
    ),
    Row(
        "AddressNotUsable for one of several: the others are listened on",
        extra="addresses: [{value: 127.0.0.1}, {value: 192.0.2.1}]",
        gateway={"Accepted": ACCEPTED, "Programmed": ("False", "AddressNotUsable")},
    ),
    Row(
        "InvalidParameters: infrastructure.parametersRef that cannot be honoured",
        extra="infrastructure: {parametersRef: {group: a.org, kind: Config, name: c}}",
        gateway={"Accepted": ("False", "InvalidParameters"), "Programmed": ("False", "Invalid")},
        found={"http": bad("Invalid")},
    ),
]
ROUTES = [
    Row(
        "attachedRoutes counts a route once per listener; sectionName and port narrow",
        f"{HTTP}, {{name: other, port: 81, protocol: HTTP}}",
        routes=(
            "{parentRefs: [{name: edge}]}",
            "{parentRefs: [{name: edge, sectionName: http}, {name: edge, sectionName: other}]}",
            "{parentRefs: [{name: edge, port: 81}]}",
        ),
        attached={"http": 2, "other": 3},
        parents=(
            ({"Accepted": ACCEPTED, "ResolvedRefs": RESOLVED},),
            ({"Accepted": ACCEPTED}, {"Accepted": ACCEPTED}),
            ({"Accepted": ACCEPTED},),
        ),
    ),
    Row(
        "NoMatchingParent: no listener has that sectionName, or that port",
        routes=(
            "{parentRefs: [{name: edge, sectionName: gone}]}",
            "{parentRefs: [{name: edge, port: 81}]}",
        ),
        attached={"http": 0},
        parents=(
            ({"Accepted": ("False", "NoMatchingParent")},),
            ({"Accepted": ("False", "NoMatchingParent")},),
        ),
    ),
    Row(
        "NotAllowedByListeners: the listener admits other namespaces or kinds only",
        "{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, "
        "selector: {matchLabels: {team: search}}}}}",
        routes=("{parentRefs: [{name: edge}]}",),
        attached={"http": 0},
        parents=(({"Accepted": ("False", "NotAllowedByListeners")},),),
    ),
    Row(
        "allowedRoutes.namespaces.selector goes by the labels of the Namespace",
        "{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, "
        "selector: {matchLabels: {team: platform, kubernetes.io/metadata.name: infra}}}}}",
        routes=("{parentRefs: [{name: edge}]}",),
        attached={"http": 1},
        parents=(({"Accepted": ACCEPTED},),),
    ),
    Row(
        "NoMatchingListenerHostname: hostnames of listener and route do not intersect; a wildcard "
        "does not match its own suffix",
        '{name: http, port: 80, protocol: HTTP, hostname: "*.a.org"}',
        routes=("{parentRefs: [{name: edge}], hostnames: [a.org, x.b.org]}",),
        attached={"http": 0},
        parents=(({"Accepted": ("False", "NoMatchingListenerHostname")},),),
    ),
    Row(
        "ResolvedRefs: each reason, while the route stays Accepted and its other rules serve",
        routes=(
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80}]}]}",
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: gone, port: 80}]}]}",
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 81}]}]}",
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 443}]}]}",
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{kind: Pod, name: web}]}]}",
            (
                "{parentRefs: [{name: edge}], rules: "
                "[{backendRefs: [{name: web, namespace: apps, port: 80}]}]}"
            ),
        ),
        attached={"http": 6},
        parents=tuple(
            ({"Accepted": ACCEPTED, "ResolvedRefs": one},)
            for one in (
                RESOLVED,
                ("False", "BackendNotFound"),
                ("False", "BackendNotFound"),
                ("False", "UnsupportedProtocol"),
                ("False", "InvalidKind"),
                ("False", "RefNotPermitted"),
            )
        ),
    ),
]


def translated(load: Load, row: Row) -> Translation:
    text = GATEWAY.replace("LISTENERS", row.listeners).replace("EXTRA", row.extra)
    for index, spec in enumerate(row.routes):
        text += ROUTE.replace("NAME", f"route-{index}").replace("SPEC", spec)
    translation = translate(load(text + WORLD), settings=SETTINGS)
    done = with_programming(translation.statuses, ProgrammingState(acked=True))
    return replace(translation, statuses=done)


def subset(wanted: Conditions, found: Conditions) -> Conditions:
    return {kind: found[kind] for kind in wanted}


@pytest.mark.parametrize("row", [*GATEWAYS, *ROUTES], ids=lambda row: row.rule[:60])
def test_rule(load: Load, row: Row) -> None:
    statuses = translated(load, row).statuses
    (gateway,) = [one for one in statuses if one.key.kind == "Gateway"]
    shown = {one.type: (one.status.value, one.reason) for one in gateway.conditions}
    assert shown == row.gateway
    listeners = {
        one.name: {each.type: (each.status.value, each.reason) for each in one.conditions}
        for one in gateway.listeners
    }
    assert {name: listeners[name] for name in row.found} == row.found
    counts = {one.name: one.attached_routes for one in gateway.listeners}
    assert {name: counts[name] for name in row.attached} == row.attached
    routes = [one for one in statuses if one.key.kind == "HTTPRoute"]
    for route, wanted in zip(routes, row.parents, strict=True):
        for parent, conditions in zip(route.parents, wanted, strict=True):
            found = {one.type: (one.status.value, one.reason) for one in parent.conditions}
            assert subset(conditions, found) == conditions


@pytest.mark.parametrize("row", [*GATEWAYS, *ROUTES], ids=lambda row: row.rule[:60])
def test_every_condition_has_its_generation_and_supported_kinds(load: Load, row: Row) -> None:
    """observedGeneration is that of the object; supportedKinds lists what attaches and no more."""
    for status in translated(load, row).statuses:
        levels = [status.conditions, *(one.conditions for one in status.listeners)]
        levels += [one.conditions for one in status.parents]
        generation = {"Gateway": 7, "HTTPRoute": 3}.get(status.key.kind)
        found = {one.observed_generation for level in levels for one in level}
        assert generation is None or found == {generation}
        for listener in status.listeners:
            refused = {one.reason for one in listener.conditions} & {"UnsupportedProtocol"}
            kinds = [one.kind for one in listener.supported_kinds]
            assert kinds == ([] if refused else ["HTTPRoute"])


def test_an_unusable_address_is_not_listened_on(load: Load) -> None:
    extra = "addresses: [{value: 127.0.0.1}, {value: 192.0.2.1}]"
    translation = translated(load, Row("", extra=extra))
    assert [one.address for one in translation.model.listeners] == ["127.0.0.1"]
    (gateway,) = [one for one in translation.statuses if one.key.kind == "Gateway"]
    assert gateway.addresses == ("127.0.0.1",)


def test_conflicts_between_gateways(load: Load) -> None:
    """Gateways share one Envoy, so listeners of two that cannot be told apart are in conflict."""
    one = GATEWAY.replace("LISTENERS", HTTP).replace("EXTRA", "")
    other = one.replace("name: edge", "name: second")
    statuses = translate(load(one + other), settings=SETTINGS).statuses
    for gateway in statuses:
        reasons = {each.type: each.reason for each in gateway.listeners[0].conditions}
        assert reasons["Conflicted"] == "HostnameConflict"
        assert reasons["Accepted"] == "HostnameConflict"
