"""Routes of the model → one Envoy RouteConfiguration per listener.

Problem: say to Envoy, exactly, which request goes where, with which share, and what happens when it
takes long or fails. Model: the routes of each virtual host in the given order, behind the model
list (model_list.py). Invariants: no Envoy default for time or retries is left in force; a request
without a usable backend is answered 500, as the Gateway API says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inferway.envoy.messages import Json, JsonValue, Resource, ResourceType, resource
from inferway.envoy.model_list import ModelInfo, fixed_reply, model_routes
from inferway.envoy.redirects import Front, redirect_routes
from inferway.envoy.replies import error_text
from inferway.envoy.route_actions import Forwarding, agree, forward, is_foreign
from inferway.envoy.route_filters import cors_settings, per_filter, response_header_fields
from inferway.envoy.sessions import marked, marking
from inferway.envoy.shares import shares
from inferway.envoy.tls import misdirected
from inferway.routing.features import NO_FILTERS
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

# Envoy's limit for a fixed body unless we raise it, in bytes.
_FIXED_BODY_BYTES_DEFAULT = 4096


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
    front = Front("https" if listener.tls else "http", listener.port)
    to = Forwarding(model, settings)
    hosts = [_virtual_host(host, first, front, to) for host in listener.hosts]
    hosts += misdirected(listener.elsewhere)
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


def _virtual_host(host: VirtualHost, first: Sequence[Json], front: Front, to: Forwarding) -> Json:
    routes = [*first]
    for route in host.routes:
        routes += _routes(route, front, to)
    return {
        "name": host.hostnames[0],
        "domains": list(host.hostnames),
        "routes": routes,
        # Bodies up to the limit can be sent again on a retry.
        "request_body_buffer_limit": to.settings.body_bytes_max,
        **_attempts(host, to.model),
    }


def _attempts(host: VirtualHost, model: RoutingModel) -> Json:
    """Behind a foreign picker a second attempt must be known as such."""
    targets = [target for route in host.routes for target in route.targets]
    if any(is_foreign(one, model) and model.pools[one.name].fail_open for one in targets):
        return {"include_request_attempt_count": True}
    return {}


def _routes(route: Route, front: Front, to: Forwarding) -> list[Json]:
    match = _match(route.match)
    filters = route.filters or NO_FILTERS
    targets = [
        replace(target, filters=target.filters or filters)
        for target in route.targets
        if target.weight > 0
    ]
    routes: list[Json] = []
    if route.session is not None and len(targets) > 1:
        for target in targets:
            condition = marked(route.session, target)
            routes += _answer(route, [target], _with_header(match, condition), front, to)
        targets = [marking(route.session, target) for target in targets]
    if agree(targets, route, to.model):
        routes += _answer(route, targets, match, front, to)
    else:
        for share in shares(targets):
            bounded: Json = {**match, "runtime_fraction": _below(share.bound)}
            routes += _answer(route, [share.target], bounded, front, to)
    return [{"name": route.name, **one} for one in routes]


def _answer(
    route: Route, targets: Sequence[Target], match: Json, front: Front, to: Forwarding
) -> list[Json]:
    """What happens to requests with this match; the targets agree in it."""
    filters = (targets[0].filters if targets else route.filters) or NO_FILTERS
    if filters.unknown:
        text = f"This route has a filter that this gateway does not know: {filters.unknown}"
        return [_failure(match, text)]
    if filters.redirect is not None:
        extra = {**response_header_fields(filters), **per_filter(cors_settings(filters.cors))}
        routes = redirect_routes(filters.redirect, match, route.match, front)
        return [{**one, **extra} for one in routes]
    if not targets or targets[0].kind is TargetKind.ERROR:
        return [_unresolved(match, targets)]
    return [{"match": match, **forward(route, targets, to)}]


def _with_header(match: Json, condition: Json) -> Json:
    headers = match.get("headers", [])
    return {**match, "headers": [*(headers if isinstance(headers, list) else []), condition]}


def _below(share: int) -> Json:
    return {"default_value": {"numerator": share, "denominator": "MILLION"}}


def _unresolved(match: Json, targets: Sequence[Target]) -> Json:
    if not targets:
        return _failure(match, "This route has no backend.")
    names = ", ".join(target.name for target in targets)
    return _failure(match, f"The backend of this route could not be resolved: {names}")


def _failure(match: Json, message: str) -> Json:
    return fixed_reply(
        match, 500, error_text(message, kind="server_error", code="backend_not_resolved")
    )


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
