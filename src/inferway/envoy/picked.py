"""Pools whose endpoints a foreign picker chooses, over ext_proc.

Problem: Envoy's ext_proc filter can follow another picker, but not as the rest of this gateway
needs it. Whether a filter runs is settled before the model name is read; in the full-duplex mode,
which pickers want, it does not bound their time, and once the body was sent a dead picker fails
the request, whatever the failure mode says. It also passes on a buffered body as one message, which
is more than the reference picker takes. Model: such a pool is a cluster whose only endpoint is a
listener inside Envoy; there the filter stands alone. That listener answers a failed, dead or silent
picker with 503, marked when the pool fails open, and the outer route then tries once more: the
second attempt passes the picker by, to the pool's fallback policy. The body is the one that Envoy
keeps for retries anyway. Silence before the pick is bounded by the idle time of the route that
matches as long as no destination is known. Routes to other pools pay nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.envoy.clusters import picker_cluster
from inferway.envoy.inside import listener_inside, one_host
from inferway.envoy.messages import Json, Resource, seconds, typed
from inferway.envoy.picker_clusters import (
    ATTEMPT_HEADER,
    foreign,
    picked_name,
)
from inferway.envoy.picker_replies import picker_reply_config
from inferway.observability.names import DESTINATION_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.foreign_pickers import ForeignPicker
    from inferway.routing.model import Pool, RoutingModel

SERVED = f"{DESTINATION_HEADER}-served"
_METADATA = "envoy.lb"
_PROCESSOR = "inferway.foreign_picker"
_NAMESPACES: Json = {"untyped": [_METADATA]}


def picked_listeners(
    model: RoutingModel, settings: EnvoySettings, actions: Callable[[Pool], Json]
) -> list[Resource]:
    """One per pool with a foreign picker. `actions` gives the RouteAction that leads to a pool."""
    return [_listener(pool, picker, settings, actions(pool)) for pool, picker in foreign(model)]


def _listener(pool: Pool, picker: ForeignPicker, settings: EnvoySettings, action: Json) -> Resource:
    name = picked_name(pool.name)
    host: Json = {
        "name": "picked",
        "domains": ["*"],
        "routes": list(_routes(action, picker)),
        "request_body_buffer_limit": settings.body_bytes_max,
        "request_headers_to_remove": [ATTEMPT_HEADER],
    }
    return listener_inside(
        name,
        stat_prefix="picked",
        routes=one_host(name, host),
        filters=[_processor(pool), _served_to_metadata()],
        settings=settings,
        options={
            "local_reply_config": picker_reply_config(marked=pool.fail_open),
            "server_header_transformation": "PASS_THROUGH",
        },
    )


def _routes(forward: Json, picker: ForeignPicker) -> Iterator[Json]:
    """A second attempt; a request that was picked for, by header or metadata; one that was not."""
    served: Json = {
        "response_headers_to_add": [
            {
                "header": {"key": SERVED, "value": "%UPSTREAM_REMOTE_ADDRESS%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
    }
    again: Json = {"name": ATTEMPT_HEADER, "string_match": {"exact": "1"}, "invert_match": True}
    off = typed("envoy.config.route.v3.FilterConfig", disabled=True)
    yield {
        "match": {"prefix": "/", "headers": [again]},
        "route": forward,
        "typed_per_filter_config": {_PROCESSOR: off},
    }
    chosen: Json = {"name": DESTINATION_HEADER, "present_match": True}
    noted: Json = {
        "filter": _METADATA,
        "path": [{"key": DESTINATION_HEADER}],
        "value": {"present_match": True},
    }
    yield {"match": {"prefix": "/", "headers": [chosen]}, "route": forward, **served}
    yield {"match": {"prefix": "/", "dynamic_metadata": [noted]}, "route": forward, **served}
    waiting = {**forward, "idle_timeout": seconds(picker.timeout_s)}
    yield {"match": {"prefix": "/"}, "route": waiting, **served}


def _processor(pool: Pool) -> Json:
    return {
        "name": _PROCESSOR,
        "typed_config": typed(
            "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            grpc_service={"envoy_grpc": {"cluster_name": picker_cluster(pool.name)}},
            failure_mode_allow=pool.fail_open,
            processing_mode={
                "request_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND",
                "response_header_mode": "SEND",
                "response_body_mode": "FULL_DUPLEX_STREAMED",
                "response_trailer_mode": "SEND",
            },
            metadata_options={
                "forwarding_namespaces": _NAMESPACES,
                "receiving_namespaces": _NAMESPACES,
            },
            # Which route matches depends on whether the picker has spoken.
            route_cache_action="CLEAR",
            status_on_error={"code": "ServiceUnavailable"},
        ),
    }


def _served_to_metadata() -> Json:
    """The address that served goes to the picker as metadata, and not to the client."""
    rule: Json = {
        "header": SERVED,
        "on_header_present": {"metadata_namespace": _METADATA, "key": SERVED, "type": "STRING"},
        "remove": True,
    }
    return {
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": typed(
            "envoy.extensions.filters.http.header_to_metadata.v3.Config", response_rules=[rule]
        ),
    }
