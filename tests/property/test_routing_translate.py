"""Random manifests: the model routes as the Gateway API's words say, whatever the file order.

The oracle decides each request from the manifests alone, by the sentences of the specification:
the most specific listener, then the most specific host name of a route, then the precedence of
matches. The model is walked as a proxy walks it: one virtual host, the first entry that fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.resources import Entry, Gateway, HTTPRoute, ModelServer, Origin, ResourceSet
from inferway.routing.model import MatchKind, Route, RoutingModel
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import translate

if TYPE_CHECKING:
    from random import Random

API = "gateway.networking.k8s.io/v1"
PATTERNS = ["a.x.org", "b.x.org", "*.x.org", "*.org", "x.org", "c.com"]
HOSTS = ["a.x.org", "b.x.org", "x.org", "d.c.x.org", "c.com", "other"]
PATHS = ["/", "/v1", "/v1/chat", "/v1x"]
TIMES = [None, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)]


@dataclass(frozen=True)
class Request:
    host: str
    path: str
    method: str
    headers: frozenset[str]
    query: frozenset[str]


names = st.sampled_from(["one", "two", "three"])
# Mostly all of them, so that requests fit many matches and the order has to decide.
sent_names = st.just(frozenset(["one", "two", "three"])) | st.frozensets(names)
conditions = st.lists(names, unique=True, max_size=2)
matches = st.fixed_dictionaries(
    {
        "path": st.fixed_dictionaries(
            {
                "type": st.sampled_from(["Exact", "PathPrefix"]),
                "value": st.sampled_from(["/", "/v1", "/v1/", "/v1/chat"]),
            }
        ),
        "headers": conditions.map(lambda found: [{"name": one, "value": "v"} for one in found]),
        "queryParams": conditions.map(lambda found: [{"name": one, "value": "v"} for one in found]),
    },
    optional={"method": st.sampled_from(["GET", "POST"])},
)
rules = st.fixed_dictionaries({"matches": st.lists(matches, min_size=1, max_size=3)})
requests = st.builds(
    Request,
    host=st.sampled_from(HOSTS),
    path=st.sampled_from(PATHS),
    method=st.sampled_from(["GET", "POST"]),
    headers=sent_names,
    query=sent_names,
)


@st.composite
def route_sets(draw: st.DrawFn) -> tuple[Gateway, list[HTTPRoute]]:
    hostnames = draw(st.lists(st.sampled_from(["", *PATTERNS]), unique=True, min_size=1))
    listeners = [
        {"name": f"l{index}", "port": 80, "protocol": "HTTP"} | ({"hostname": one} if one else {})
        for index, one in enumerate(hostnames)
    ]
    gateway = Gateway.model_validate(
        {
            "apiVersion": API,
            "kind": "Gateway",
            "metadata": {"name": "main"},
            "spec": {"gatewayClassName": "inferway", "listeners": listeners},
        }
    )
    routes = []
    for name in draw(st.permutations(["a", "b", "c", "d"])):
        parent = {"name": "main"}
        section = draw(st.sampled_from([None, *(one["name"] for one in listeners)]))
        if section:
            parent["sectionName"] = section
        spec = {
            "parentRefs": [parent],
            "hostnames": draw(st.lists(st.sampled_from(PATTERNS), unique=True, max_size=2)),
            "rules": draw(st.lists(rules, min_size=1, max_size=3)),
        }
        metadata = {"name": name, "creationTimestamp": draw(st.sampled_from(TIMES))}
        routes.append(
            HTTPRoute.model_validate(
                {"apiVersion": API, "kind": "HTTPRoute", "metadata": metadata, "spec": spec}
            )
        )
    return gateway, routes


def resource_set(*resources: Gateway | HTTPRoute | ModelServer) -> ResourceSet:
    entries = {one.key: Entry(one, Origin("test", index)) for index, one in enumerate(resources)}
    return ResourceSet(MappingProxyType(entries))


def model_of(*resources: Gateway | HTTPRoute | ModelServer) -> RoutingModel:
    return translate(resource_set(*resources), settings=RoutingSettings()).model


def host_matches(pattern: str, host: str) -> bool:
    if pattern in ("", "*"):
        return True
    return host.endswith(pattern[1:]) if pattern.startswith("*") else host == pattern


def host_rank(pattern: str) -> tuple[int, int]:
    """Larger is better: characters of an exact name, then characters at all."""
    exact = 0 if pattern.startswith("*") else len(pattern)
    return (exact, 0 if pattern == "*" else len(pattern))


def path_matches(kind: str, value: str, path: str) -> bool:
    if kind == "Exact":
        return path == value
    prefix = value.rstrip("/")
    return path == prefix or path.startswith(prefix + "/")


def wanted(gateway: Gateway, routes: list[HTTPRoute], request: Request) -> str | None:
    """The name of the entry that the specification chooses; None for 404."""
    listeners = [
        one for one in gateway.spec.listeners if host_matches(one.hostname or "", request.host)
    ]
    if not listeners:
        return None
    listener = max(listeners, key=lambda one: host_rank(one.hostname or ""))
    found = []
    for route in routes:
        if route.spec.parent_refs[0].section_name not in (None, listener.name):
            continue
        patterns = [one for one in route.spec.hostnames or ("",) if host_matches(one, request.host)]
        if not patterns:
            continue
        best = max(host_rank(one) for one in patterns)
        created = route.metadata.creation_timestamp
        for index, rule in enumerate(route.spec.rules):
            for position, match in enumerate(rule.matches):
                fits = (
                    path_matches(match.path.type, match.path.value, request.path)
                    and match.method in (None, request.method)
                    and {one.name for one in match.headers} <= request.headers
                    and {one.name for one in match.query_params} <= request.query
                )
                if fits:
                    exact = match.path.type == "Exact"
                    rank = (
                        (-best[0], -best[1]),
                        not exact,
                        0 if exact else -len(match.path.value.rstrip("/")),
                        match.method is None,
                        -len(match.headers),
                        -len(match.query_params),
                        (created is None, created or datetime.max.replace(tzinfo=UTC)),
                        route.name,
                        index,
                        position,
                    )
                    found.append((rank, f"default/{route.name}/{index}/{position}"))
    return min(found)[1] if found else None


def fits(route: Route, request: Request) -> bool:
    match = route.match
    kind = "Exact" if match.path_kind is MatchKind.EXACT else "PathPrefix"
    return (
        path_matches(kind, match.path, request.path)
        and match.method in (None, request.method)
        and {one.name for one in match.headers} <= request.headers
        and {one.name for one in match.query} <= request.query
    )


def routed(model: RoutingModel, request: Request) -> str | None:
    """What a proxy does: the most specific virtual host, then the first entry that fits."""
    hosts = {name: host for host in model.listeners[0].hosts for name in host.hostnames}
    matching = [name for name in hosts if host_matches(name, request.host)]
    if not matching:
        return None
    host = hosts[max(matching, key=host_rank)]
    return next((route.name for route in host.routes if fits(route, request)), None)


@settings(max_examples=100, deadline=None)
@given(route_sets(), st.lists(requests, min_size=1, max_size=20))
def test_model_routes_as_the_specification_says(
    resources: tuple[Gateway, list[HTTPRoute]], sent: list[Request]
) -> None:
    gateway, routes = resources
    model = model_of(gateway, *routes)
    for request in sent:
        assert routed(model, request) == wanted(gateway, routes, request)


@settings(max_examples=30, deadline=None)
@given(route_sets(), st.randoms(use_true_random=False))
def test_order_of_files_does_not_matter(
    resources: tuple[Gateway, list[HTTPRoute]], random: Random
) -> None:
    gateway, routes = resources
    shuffled = [gateway, *routes]
    random.shuffle(shuffled)
    first = translate(resource_set(gateway, *routes), settings=RoutingSettings())
    second = translate(resource_set(*shuffled), settings=RoutingSettings())
    assert first == second


@given(st.permutations(range(5)))
def test_rules_of_equal_precedence_keep_document_order(order: list[int]) -> None:
    """The same conditions everywhere: only the place in the document can decide."""
    written = [
        {
            "name": f"rule-{number}",
            "matches": [
                {"path": {"value": "/v1"}, "headers": [{"name": f"h{number}", "value": "v"}]}
            ],
        }
        for number in order
    ]
    route = HTTPRoute.model_validate(
        {
            "apiVersion": API,
            "kind": "HTTPRoute",
            "metadata": {"name": "r"},
            "spec": {"rules": written},
        }
    )
    (host,) = model_of(route).listeners[0].hosts
    assert [one.match.headers[0].name for one in host.routes] == [f"h{one}" for one in order]
