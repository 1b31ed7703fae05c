"""Where copies of requests come in: listeners inside Envoy, without a port.

Problem: a copy must be picked for its own pool, by the same filters that serve clients. Model: one
such listener per mirrored backend, with our filters and one route. What the original's filters
wrote into trust headers is removed, as on every listener. A copy has no client who could be told
anything, so its time is bounded by silence only, and its answer is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.envoy.attempts import attempts_log
from inferway.envoy.filters import http_filters
from inferway.envoy.inside import listener_inside, one_host
from inferway.envoy.listeners import remove_trust_headers
from inferway.envoy.mirrors import mirror_name, mirrored
from inferway.envoy.route_actions import Forwarding, forward
from inferway.routing.model import Route, RouteMatch, Target

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.envoy.messages import Json, Resource
    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.model import RoutingModel

# Not a client-facing listener: its streams are in no statistic about clients.
_STAT_PREFIX = "mirror"


def mirror_listeners(
    model: RoutingModel, settings: EnvoySettings, pick_socket: Path
) -> list[Resource]:
    """One per backend that gets copies."""
    return [
        listener_inside(
            mirror_name(kind, name),
            stat_prefix=_STAT_PREFIX,
            routes=one_host(
                mirror_name(kind, name),
                {
                    "name": "mirror",
                    "domains": ["*"],
                    "routes": [_route(Target(kind, name, 1), model, settings)],
                    "request_body_buffer_limit": settings.body_bytes_max,
                },
            ),
            filters=http_filters(settings, pick_socket),
            settings=settings,
            upstream_logs=[attempts_log(pick_socket)],
            options={"early_header_mutation_extensions": [remove_trust_headers()]},
        )
        for kind, name in mirrored(model)
    ]


def _route(target: Target, model: RoutingModel, settings: EnvoySettings) -> Json:
    route = Route(name="mirror", match=RouteMatch(), targets=(target,))
    action = forward(route, [target], Forwarding(model, settings))
    return {"name": route.name, "match": {"prefix": "/"}, **action}
