"""Where streams that wait for long go on: listeners inside Envoy, without a port.

Problem: a client that waits in the picker's queue is kept with comments, and a response that has
begun so cannot be followed by a server's. Model: beside every listener stands one inside Envoy with
the same routes, where the filter `pick` takes over what its counterpart outside has asked; the
outside relays what comes of it (docs/adr/0004-broken-streams.md). What filters outside have done to
a request is not done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inferway.envoy.attempts import attempts_log
from inferway.envoy.clusters import way_in
from inferway.envoy.filters import relayed_filters
from inferway.envoy.inside import listener_inside
from inferway.envoy.listeners import relay_name
from inferway.envoy.routes import route_config_name

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.envoy.messages import Resource
    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.model import RoutingModel

_STREAMS_MAX: Final = 10_000  # at once and per listener; who exceeds it gets an error event
# Not a client-facing listener: its streams are in no statistic about clients.
_STAT_PREFIX: Final = "relay"


def relay_listeners(
    model: RoutingModel, settings: EnvoySettings, pick_socket: Path
) -> list[Resource]:
    """One per listener."""
    return [
        listener_inside(
            relay_name(one.name),
            stat_prefix=_STAT_PREFIX,
            routes={
                "rds": {
                    "route_config_name": route_config_name(one.name),
                    "config_source": {"ads": {}, "resource_api_version": "V3"},
                }
            },
            filters=relayed_filters(settings, pick_socket),
            settings=settings,
            upstream_logs=[attempts_log(pick_socket)],
            # Envoy's own replies become events outside, so they need no shape here.
            options={"server_header_transformation": "PASS_THROUGH"},
        )
        for one in model.listeners
    ]


def relay_clusters(model: RoutingModel, settings: EnvoySettings) -> list[Resource]:
    """One per listener."""
    return [
        way_in(
            relay_name(one.name),
            requests_max=_STREAMS_MAX,
            buffer_bytes=settings.connection_buffer_bytes,
            settings=settings,
        )
        for one in model.listeners
    ]
