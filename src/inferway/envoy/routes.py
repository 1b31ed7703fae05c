"""Routes of the model → one Envoy RouteConfiguration per listener.

Problem: say to Envoy, exactly, which request goes where, with which share, and what happens when it
takes long or fails. Model: the routes of each virtual host in the given order, behind the model
list (model_list.py). Invariants: no Envoy default for time or retries is left in force; a request
without a usable backend is answered 500, as the Gateway API says.

Shares: Envoy splits traffic over weighted clusters, but an entry of such a split cannot be a fixed
reply. A route of which a share is unresolved therefore becomes several with the same match, each
taking the requests whose random number lies below its cumulative bound. Envoy draws that number
once per request and uses it in every comparison, so the bounds cut it into exact shares (of a
millionth).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from inferway.envoy.clusters import pool_cluster, seconds, servers_cluster
from inferway.envoy.filters import pick_settings
from inferway.envoy.messages import Json, JsonValue, Resource, ResourceType, resource, typed
from inferway.envoy.model_list import ModelInfo, fixed_reply, model_routes
from inferway.envoy.replies import error_text
from inferway.routing.model import MatchKind, TargetKind

if TYPE_CHECKING:
    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.model import (
        Listener,
        Route,
        RouteMatch,
        RoutingModel,
        Target,
        ValueMatch,
        VirtualHost,
    )

Models = Mapping[str, Sequence[ModelInfo]]
"""Listener name to what its `/v1/models` lists; a listener that is absent does not answer it."""

_SHARES = 1_000_000
# Envoy's limit for a fixed body unless we raise it, in bytes.
_FIXED_BODY_BYTES_DEFAULT = 4096
# `reset` is a connection that broke before the first byte of an answer. Generating twice does no
# harm, and a model server that was killed must not show to its clients.
_RETRY_ON = "connect-failure,refused-stream,reset,retriable-status-codes"
_PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"


def route_config_name(listener: str) -> str:
    """Name of the RouteConfiguration of a listener."""
    return f"routes/{listener}"


def route_configurations(
    model: RoutingModel, models: Models, settings: EnvoySettings
) -> tuple[Resource, ...]:
    """One per listener, by name."""
    found = [_configuration(one, model, models, settings) for one in model.listeners]
    return tuple(sorted(found, key=lambda one: one.name))


def _configuration(
    listener: Listener, model: RoutingModel, models: Models, settings: EnvoySettings
) -> Resource:
    listed = models.get(listener.name)
    first = [] if listed is None else model_routes(listed)
    hosts = [_virtual_host(host, first, model, settings) for host in listener.hosts]
    content: Json = {
        "name": route_config_name(listener.name),
        "virtual_hosts": hosts,
        "ignore_port_in_host_matching": True,
        "max_direct_response_body_size_bytes": max(
            [_FIXED_BODY_BYTES_DEFAULT, *(_fixed_body_bytes(route) for route in first)]
        ),
    }
    return resource(ResourceType.ROUTES, content)


def _fixed_body_bytes(route: Json) -> int:
    match route:
        case {"direct_response": {"body": {"inline_string": str(text)}}}:
            return len(text.encode())
    return 0


def _virtual_host(
    host: VirtualHost, first: Sequence[Json], model: RoutingModel, settings: EnvoySettings
) -> Json:
    routes = [*first]
    for route in host.routes:
        routes += _routes(route, model, settings)
    return {
        "name": host.hostnames[0],
        "domains": list(host.hostnames),
        "routes": routes,
        # Bodies up to the limit can be sent again on a retry.
        "request_body_buffer_limit": settings.body_bytes_max,
    }


def _routes(route: Route, model: RoutingModel, settings: EnvoySettings) -> list[Json]:
    match = _match(route.match)
    targets = [target for target in route.targets if target.weight > 0]
    broken = [target for target in targets if target.kind is TargetKind.ERROR]
    if len(broken) == len(targets):
        return [{"name": route.name, **_unresolved(match, broken)}]
    if not broken:
        return [{"name": route.name, "match": match, **_action(route, targets, model, settings)}]
    return _shared_routes(route, match, targets, model, settings)


def _shared_routes(
    route: Route,
    match: Json,
    targets: Sequence[Target],
    model: RoutingModel,
    settings: EnvoySettings,
) -> list[Json]:
    total = sum(target.weight for target in targets)
    bound = 0
    routes: list[Json] = []
    for target in targets:
        bound += target.weight
        bounded: Json = {**match, "runtime_fraction": _below(bound * _SHARES // total)}
        if target.kind is TargetKind.ERROR:
            routes.append({"name": route.name, **_unresolved(bounded, [target])})
        else:
            action = _action(route, [target], model, settings)
            routes.append({"name": route.name, "match": bounded, **action})
    return routes


def _below(share: int) -> Json:
    return {"default_value": {"numerator": share, "denominator": "MILLION"}}


def _unresolved(match: Json, targets: Sequence[Target]) -> Json:
    names = ", ".join(target.name for target in targets)
    message = f"The backend of this route could not be resolved: {names}"
    if not targets:
        message = "This route has no backend."
    return fixed_reply(
        match, 500, error_text(message, kind="server_error", code="backend_not_resolved")
    )


def _action(
    route: Route, targets: Sequence[Target], model: RoutingModel, settings: EnvoySettings
) -> Json:
    if len(targets) == 1:
        destination: Json = {"cluster": _cluster(targets[0])}
        filters = _filter_settings(targets[0], model)
    else:
        entries = [
            {"name": _cluster(target), "weight": target.weight, **_filter_settings(target, model)}
            for target in targets
        ]
        destination = {"weighted_clusters": {"clusters": entries}}
        filters = {}
    return {
        "route": {
            **destination,
            # Streams may take as long as they keep moving; only the route may ask for an end.
            "timeout": seconds(route.request_timeout_s or 0.0),
            "idle_timeout": seconds(settings.idle_timeout_s),
            "retry_policy": _retry_policy(route, settings),
        },
        **filters,
    }


def _cluster(target: Target) -> str:
    if target.kind is TargetKind.POOL:
        return pool_cluster(target.name)
    return servers_cluster(target.name)


def _filter_settings(target: Target, model: RoutingModel) -> Json:
    if target.kind is not TargetKind.POOL:
        return {}
    return {"typed_per_filter_config": pick_settings(model.pools[target.name])}


def _retry_policy(route: Route, settings: EnvoySettings) -> Json:
    policy: dict[str, JsonValue] = {
        "retry_on": _RETRY_ON,
        "retriable_status_codes": [503],
        "num_retries": settings.retries_max,
        # When the picker's list is at its end, the fallback policy must not choose a host that
        # has just failed, as long as there is another.
        "retry_host_predicate": [
            {
                "name": _PREVIOUS_HOSTS,
                "typed_config": typed(
                    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                ),
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }
    if route.backend_timeout_s:
        policy["per_try_timeout"] = seconds(route.backend_timeout_s)
    return policy


def _match(match: RouteMatch) -> Json:
    headers = [_header(header) for header in match.headers]
    if match.method is not None:
        headers.insert(0, {"name": ":method", "string_match": {"exact": match.method}})
    content: dict[str, JsonValue] = {**_path(match)}
    if headers:
        content["headers"] = headers
    if match.query:
        content["query_parameters"] = [
            {"name": one.name, "string_match": _string(one)} for one in match.query
        ]
    return content


def _path(match: RouteMatch) -> Json:
    if match.path_kind is MatchKind.EXACT:
        return {"path": match.path}
    if match.path_kind is MatchKind.REGEX:
        return {"safe_regex": {"regex": match.path}}
    # Envoy's prefix by path element takes no trailing slash: /a/ and /a mean the same.
    path = match.path.rstrip("/")
    return {"path_separated_prefix": path} if path else {"prefix": "/"}


def _header(header: ValueMatch) -> Json:
    return {"name": header.name, "string_match": _string(header)}


def _string(match: ValueMatch) -> Json:
    if match.kind is MatchKind.REGEX:
        return {"safe_regex": {"regex": match.value}}
    return {"exact": match.value}
