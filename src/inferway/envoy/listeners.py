"""Listeners of the model → Envoy listeners with one HTTP connection manager each.

Problem: a listener is where untrusted bytes come in and where Envoy's defaults, made for short web
requests, would cut streams. Model: one fixed filter chain per listener; its routes come separately
(RDS), so that a route change never touches a connection. Invariants: headers that carry trust are
removed before anything reads them; every reply carries `x-request-id`; no overall time limit, idle
limits everywhere; answers of model servers pass unchanged. Listeners with TLS that share an address
and port are filter chains of one Envoy listener (tls.py).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from inferway.envoy.attempts import attempts_log
from inferway.envoy.clusters import socket_address
from inferway.envoy.filters import http_filters
from inferway.envoy.messages import (
    Json,
    JsonValue,
    Resource,
    ResourceType,
    resource,
    seconds,
    typed,
)
from inferway.envoy.replies import local_reply_config
from inferway.envoy.route_filters import cors_filter
from inferway.envoy.routes import route_config_name
from inferway.envoy.sessions import session_filter
from inferway.envoy.tls import TLS_INSPECTOR, tls_chain
from inferway.observability.names import TRUST_HEADERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.model import Listener, RoutingModel

STAT_PREFIX = "listener_"
_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_MUTATION = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"


def listeners(
    model: RoutingModel, settings: EnvoySettings, pick_socket: Path
) -> tuple[Resource, ...]:
    """One per address and port, by name."""
    by_socket: defaultdict[tuple[str, int], list[Listener]] = defaultdict(list)
    for one in model.listeners:
        by_socket[one.address, one.port].append(one)
    found = [
        resource(ResourceType.LISTENER, _listener(sharing, settings, pick_socket))
        for sharing in by_socket.values()
    ]
    return tuple(sorted(found, key=lambda one: one.name))


def _listener(sharing: Sequence[Listener], settings: EnvoySettings, pick_socket: Path) -> Json:
    first = sharing[0]
    inspection: Json = {"listener_filters": [TLS_INSPECTOR]} if first.tls else {}
    return {
        "name": _listener_name(first),
        "address": socket_address(first.address, first.port),
        "per_connection_buffer_limit_bytes": settings.connection_buffer_bytes,
        **inspection,
        "filter_chains": [_filter_chain(one, settings, pick_socket) for one in sharing],
    }


def _listener_name(first: Listener) -> str:
    """With TLS by its place: listeners that come and go on a port must not rename it, because
    another name is another listener, which has to wait for the port.
    """
    place = f"[{first.address}]" if ":" in first.address else first.address
    return first.name if first.tls is None else f"{place}:{first.port}"


def _filter_chain(listener: Listener, settings: EnvoySettings, pick_socket: Path) -> Json:
    chain: Json = {"filters": [_connection_manager(listener, settings, pick_socket)]}
    return chain if listener.tls is None else {**chain, **tls_chain(listener.name, listener.tls)}


def relay_name(listener: str) -> str:
    """Name of the cluster, and of the listener behind it, for streams that wait for long."""
    return f"relay/{listener}"


def connection_manager(**fields: JsonValue) -> Json:
    """The network filter that speaks HTTP, with these fields."""
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": typed(_MANAGER, **fields),
    }


def _connection_manager(listener: Listener, settings: EnvoySettings, pick_socket: Path) -> Json:
    return connection_manager(
        stat_prefix=f"{STAT_PREFIX}{listener.port}",
        rds={
            "route_config_name": route_config_name(listener.name),
            "config_source": {"ads": {}, "resource_api_version": "V3"},
        },
        http_filters=[
            *http_filters(
                settings,
                pick_socket,
                [cors_filter(), session_filter()],
                relay=relay_name(listener.name),
            ),
            router_filter(attempts_log(pick_socket)),
        ],
        early_header_mutation_extensions=[remove_trust_headers()],
        local_reply_config=local_reply_config(),
        # Time: silence is bounded, duration is not.
        request_timeout="0s",
        request_headers_timeout=seconds(settings.headers_timeout_s),
        stream_idle_timeout=seconds(settings.idle_timeout_s),
        http2_protocol_options={
            "max_concurrent_streams": settings.streams_per_connection_max,
            "initial_stream_window_size": settings.connection_buffer_bytes,
            "initial_connection_window_size": 16 * settings.connection_buffer_bytes,
        },
        # Who is asking, and under which id.
        use_remote_address=True,
        internal_address_config={"unix_sockets": False},
        generate_request_id=True,
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        server_header_transformation="PASS_THROUGH",
        # A model name may hold an escaped slash, so escapes stay; dots and the like are resolved.
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
    )


def router_filter(*upstream_logs: Json) -> Json:
    """The last filter of every chain."""
    config = typed(
        "envoy.extensions.filters.http.router.v3.Router",
        suppress_envoy_headers=True,
        upstream_log=upstream_logs,
    )
    return {"name": "envoy.filters.http.router", "typed_config": config}


def remove_trust_headers() -> Json:
    """Nothing that a sender says in these headers is heard."""
    mutations: list[Json] = [{"remove": name} for name in TRUST_HEADERS]
    # Envoy obeys headers such as x-envoy-retry-on from clients that it takes for local.
    mutations.append({"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}})
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(_MUTATION, mutations=mutations),
    }
