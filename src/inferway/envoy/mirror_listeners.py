"""Where copies of requests come in: listeners inside Envoy, without a port.

Problem: a copy must be picked for its own pool, by the same filters that serve clients. Model: one
such listener per mirrored backend, with our filters and one route. What the original's filters
wrote into trust headers is removed, as on every listener. A copy has no client who could be told
anything, so its time is bounded by silence only, and its answer is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.envoy.filters import http_filters
from inferway.envoy.listeners import remove_trust_headers, router_filter
from inferway.envoy.messages import Json, Resource, ResourceType, resource, seconds, typed
from inferway.envoy.mirrors import mirror_name, mirrored
from inferway.envoy.route_actions import Forwarding, forward
from inferway.routing.model import Route, RouteMatch, Target

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.model import RoutingModel

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
# Not a client-facing listener: its streams are in no statistic about clients.
_STAT_PREFIX = "mirror"


def mirror_listeners(
    model: RoutingModel, settings: EnvoySettings, pick_socket: Path
) -> list[Resource]:
    """One per backend that gets copies."""
    return [
        resource(
            ResourceType.LISTENER,
            _listener(
                mirror_name(kind, name),
                _route(Target(kind, name, 1), model, settings),
                settings,
                pick_socket,
            ),
        )
        for kind, name in mirrored(model)
    ]


def _route(target: Target, model: RoutingModel, settings: EnvoySettings) -> Json:
    route = Route(name="mirror", match=RouteMatch(), targets=(target,))
    action = forward(route, [target], Forwarding(model, settings))
    return {"name": route.name, "match": {"prefix": "/"}, **action}


def _listener(name: str, route: Json, settings: EnvoySettings, pick_socket: Path) -> Json:
    host: Json = {
        "name": "mirror",
        "domains": ["*"],
        "routes": [route],
        "request_body_buffer_limit": settings.body_bytes_max,
    }
    manager = typed(
        _MANAGER,
        stat_prefix=_STAT_PREFIX,
        route_config={"name": name, "virtual_hosts": [host]},
        http_filters=[*http_filters(settings, pick_socket), router_filter()],
        early_header_mutation_extensions=[remove_trust_headers()],
        request_timeout="0s",
        stream_idle_timeout=seconds(settings.idle_timeout_s),
        # The copy is the original's to the byte: who is asking was settled there.
        skip_xff_append=True,
        generate_request_id=True,
        preserve_external_request_id=True,
    )
    return {
        "name": name,
        "internal_listener": {},
        "per_connection_buffer_limit_bytes": settings.connection_buffer_bytes,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
