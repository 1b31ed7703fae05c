"""Versions stand for content, and content is what the model says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from inferway.envoy.clusters import endpoint_addresses, load_assignments
from inferway.envoy.messages import (
    InvalidResourceError,
    Json,
    JsonValue,
    ResourceType,
    resource,
    resource_json,
    seconds,
)
from inferway.envoy.model_list import ModelInfo
from inferway.envoy.settings import EnvoySettings
from inferway.envoy.snapshot import ResourceSet, Snapshot, build_snapshot
from inferway.routing.model import (
    Endpoint,
    Listener,
    MatchKind,
    Pool,
    Route,
    RouteMatch,
    RoutingModel,
    Target,
    TargetKind,
    VirtualHost,
)

LISTENER = "ns/gw/http"


def endpoint(host: str, port: int = 8000) -> Endpoint:
    return Endpoint(host, port, "ns/server", "vllm", "/metrics")


def model_of(*routes: Route, hosts: tuple[str, ...] = ("10.0.0.1",)) -> RoutingModel:
    pool = Pool("ns/p", tuple(endpoint(host) for host in hosts), False, True, "random", ())
    listener = Listener(LISTENER, "127.0.0.1", 80, (VirtualHost(("*",), routes),))
    return RoutingModel((listener,), {pool.name: pool}, {})


def snapshot_of(
    model: RoutingModel,
    *,
    resolved: dict[str, tuple[str, ...]] | None = None,
    models: tuple[ModelInfo, ...] | None = None,
) -> Snapshot:
    return build_snapshot(
        model,
        resolved=resolved or {},
        models={} if models is None else {LISTENER: models},
        settings=EnvoySettings(),
        pick_socket=Path("/run/pick.sock"),
    )


def routes_of(model: RoutingModel, models: tuple[ModelInfo, ...] | None = None) -> list[dict]:
    (one,) = snapshot_of(model, models=models).routes.resources.values()
    return json.loads(resource_json(one))["virtual_hosts"][0]["routes"]


TO_POOL = Target(TargetKind.POOL, "ns/p", 1)
BROKEN = Target(TargetKind.ERROR, "ns/missing", 1)


def test_versions_change_only_with_their_own_type() -> None:
    before = snapshot_of(model_of(Route("r", RouteMatch(), (TO_POOL,))))
    same = snapshot_of(model_of(Route("r", RouteMatch(), (TO_POOL,))))
    assert before == same
    moved = snapshot_of(model_of(Route("r", RouteMatch(), (TO_POOL,)), hosts=("10.0.0.2",)))
    assert moved.endpoints.version != before.endpoints.version
    assert moved.version != before.version
    for kind in (ResourceType.CLUSTER, ResourceType.LISTENER, ResourceType.ROUTES):
        assert moved.of(kind).version == before.of(kind).version


def test_a_new_adapter_touches_no_listener() -> None:
    model = model_of(Route("r", RouteMatch(), (TO_POOL,)))
    base = ModelInfo("llama", 1)
    before = snapshot_of(model, models=(base,))
    after = snapshot_of(model, models=(base, ModelInfo("bot", 2, parent="llama")))
    assert after.extensions.version != before.extensions.version
    for kind in (ResourceType.CLUSTER, ResourceType.ENDPOINTS, ResourceType.LISTENER):
        assert after.of(kind).version == before.of(kind).version
    (one,) = after.extensions.resources.values()
    config = json.loads(json.loads(resource_json(one))["typed_config"]["filter_config"]["value"])
    assert config["base_models"] == {"bot": "llama", "llama": "llama"}
    assert snapshot_of(RoutingModel()).extensions.resources == {}


def test_order_of_resources_does_not_matter_for_the_version() -> None:
    a, b = (
        resource(ResourceType.ENDPOINTS, {"cluster_name": name, "endpoints": []}) for name in "ab"
    )
    assert ResourceSet.of([a, b]) == ResourceSet.of([b, a])
    assert ResourceSet.of([a]).version != ResourceSet.of([b]).version
    assert ResourceSet.of([]).version


def test_dns_answers_in_another_order_change_nothing() -> None:
    model = model_of(hosts=("llm.internal",))
    one = snapshot_of(model, resolved={"llm.internal": ("10.0.0.2", "10.0.0.1")})
    other = snapshot_of(model, resolved={"llm.internal": ("10.0.0.1", "10.0.0.2")})
    assert one.version == other.version


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (("10.0.0.1", "10.0.0.1"), (("10.0.0.1", 8000),)),
        (("fd00:0:0::1", "[FD00::1]"), (("fd00::1", 8000),)),
        (("known", "unknown"), (("10.0.0.7", 8000), ("fd00::7", 8000))),
        ((), ()),
    ],
)
def test_addresses_are_canonical_and_unique(
    hosts: tuple[str, ...], expected: tuple[tuple[str, int], ...]
) -> None:
    resolved = {"known": ("fd00:0::7", "10.0.0.7")}
    assert tuple(endpoint_addresses([endpoint(host) for host in hosts], resolved)) == expected


def test_same_host_on_two_ports_is_two_endpoints() -> None:
    found = tuple(endpoint_addresses([endpoint("10.0.0.1", 2), endpoint("10.0.0.1", 1)], {}))
    assert found == (("10.0.0.1", 1), ("10.0.0.1", 2))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0s"), (10.0, "10s"), (0.25, "0.25s"), (600, "600s"), (1e-9, "0.000000001s")],
)
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text


def test_shares_end_at_the_whole() -> None:
    """The bounds grow, and the last entry takes every number that is left."""
    targets = tuple(
        replace(one, weight=weight) for one, weight in ((TO_POOL, 1), (BROKEN, 1), (TO_POOL, 1))
    )
    bounds = [
        route["match"]["runtime_fraction"]["default_value"]
        for route in routes_of(model_of(Route("r", RouteMatch(), targets)))
    ]
    assert [bound["numerator"] for bound in bounds] == [333_333, 666_666, 1_000_000]
    assert {bound["denominator"] for bound in bounds} == {"MILLION"}


def test_zero_weights_get_nothing() -> None:
    unused = replace(BROKEN, weight=0)
    (route,) = routes_of(model_of(Route("r", RouteMatch(), (TO_POOL, unused))))
    assert route["route"]["cluster"] == "pool/ns/p"
    assert "runtime_fraction" not in route["match"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", {"prefix": "/"}),
        ("/a", {"path_separated_prefix": "/a"}),
        ("/a/", {"path_separated_prefix": "/a"}),
    ],
)
def test_prefixes(path: str, expected: dict) -> None:
    (route,) = routes_of(model_of(Route("r", RouteMatch(MatchKind.PREFIX, path), (TO_POOL,))))
    assert route["match"] == expected


@pytest.mark.parametrize(
    ("request_s", "backend_s", "timeout", "per_try"),
    [(None, None, "0s", None), (0.0, 0.0, "0s", None), (2.5, 1.0, "2.500s", "1s")],
)
def test_timeouts(
    request_s: float | None, backend_s: float | None, timeout: str, per_try: str | None
) -> None:
    route = Route("r", RouteMatch(), (TO_POOL,), request_s, backend_s)
    (found,) = routes_of(model_of(route))
    assert found["route"]["timeout"] == timeout
    assert found["route"]["retry_policy"].get("per_try_timeout") == per_try


def test_model_list_stands_first_and_only_where_it_is_known() -> None:
    model = model_of(Route("r", RouteMatch(), (TO_POOL,)))
    assert len(routes_of(model)) == 1
    assert len(routes_of(model, ())) == 3
    listed = (ModelInfo("a/b", 1), ModelInfo("a/b", 2), ModelInfo("c", 3))
    paths = [route["match"].get("path") for route in routes_of(model, listed)]
    assert paths == ["/v1/models", "/v1/models/a/b", "/v1/models/a%2Fb", "/v1/models/c", None, None]


def test_long_model_list_raises_the_limit_of_fixed_bodies() -> None:
    models = tuple(ModelInfo(f"größe-{number}", 1) for number in range(500))
    (one,) = snapshot_of(model_of(), models=models).routes.resources.values()
    table = json.loads(resource_json(one))
    listing = table["virtual_hosts"][0]["routes"][0]["direct_response"]["body"]["inline_string"]
    assert table["max_direct_response_body_size_bytes"] == len(listing.encode())


@pytest.mark.parametrize(
    "content",
    [
        {"name": "x", "no_such_field": 1},
        {"name": "x", "connect_timeout": "soon"},
        {"connect_timeout": "1s"},
    ],
)
def test_illegal_resources_are_refused_here(content: dict) -> None:
    with pytest.raises(InvalidResourceError):
        resource(ResourceType.CLUSTER, content)


def test_a_route_configuration_is_the_same_whether_its_routes_are_remembered_or_new() -> None:
    def content(*paths: str) -> Json:
        routes = [{"match": {"path": path}, "route": {"cluster": "c"}} for path in paths]
        return {"name": "r", "virtual_hosts": [{"name": "h", "domains": ["*"], "routes": routes}]}

    whole = resource(ResourceType.ROUTES, content("/a", "/b"))
    moved = resource(ResourceType.ROUTES, content("/b", "/a"))
    again = resource(ResourceType.ROUTES, content("/a", "/b"))
    assert whole.body == again.body != moved.body
    assert [
        one["match"]["path"]
        for one in json.loads(resource_json(moved))["virtual_hosts"][0]["routes"]
    ] == ["/b", "/a"]


@pytest.mark.parametrize(
    "routes", [{"match": {}}, ["/a"], [{"match": {"path": 1}}], [{"mach": {}}]]
)
def test_routes_that_are_none_are_refused(routes: JsonValue) -> None:
    content: Json = {"name": "r", "virtual_hosts": [{"name": "h", "routes": routes}]}
    with pytest.raises(InvalidResourceError):
        resource(ResourceType.ROUTES, content)


def test_a_draining_endpoint_is_told_as_such() -> None:
    endpoints = (endpoint("10.0.0.1"), replace(endpoint("10.0.0.2"), draining=True))
    pool = Pool("ns/p", endpoints, False, True, "random", ())
    [assignment] = load_assignments(RoutingModel((), {pool.name: pool}, {}), {})
    [group] = json.loads(resource_json(assignment))["endpoints"]
    assert [one.get("health_status") for one in group["lb_endpoints"]] == [None, "DRAINING"]
