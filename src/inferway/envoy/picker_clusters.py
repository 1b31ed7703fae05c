"""The clusters around a foreign picker: the way in to its listener, and the picker itself.

Model: see picked.py. The picker's addresses come by EDS like those of pools. Invariant: a picker
whose process hangs or whose host is gone is noticed by HTTP/2 pings, so that its requests fail
within two of their intervals; one that is silent but alive is bounded in picked.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.envoy.clusters import picker_cluster, way_in
from inferway.envoy.messages import (
    Json,
    JsonValue,
    Resource,
    ResourceType,
    resource,
    seconds,
    typed,
)
from inferway.envoy.picker_replies import FAILED_HEADER
from inferway.routing.foreign_pickers import PickerTls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.foreign_pickers import ForeignPicker
    from inferway.routing.model import Pool, RoutingModel

ATTEMPT_HEADER = "x-envoy-attempt-count"
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_PING_S = 1.0


def picked_name(pool: str) -> str:
    """Name of the cluster, and of the listener behind it, that leads to a pool by its picker."""
    return f"picked/{pool}"


def picker_retry_policy() -> dict[str, JsonValue]:
    """The outer route's retry policy: only a marked failure of the picker, once."""
    return {
        "retry_on": "retriable-headers",
        "retriable_headers": [{"name": FAILED_HEADER, "present_match": True}],
        "num_retries": 1,
    }


def picked_clusters(model: RoutingModel, settings: EnvoySettings) -> list[Resource]:
    """Two per pool with a foreign picker: the way in, and the picker."""
    return [
        one
        for pool, picker in foreign(model)
        for one in (
            way_in(
                picked_name(pool.name),
                requests_max=settings.requests_per_pool_max,
                buffer_bytes=settings.connection_buffer_bytes,
                settings=settings,
            ),
            resource(ResourceType.CLUSTER, _picker(pool, picker, settings)),
        )
    ]


def foreign(model: RoutingModel) -> Iterator[tuple[Pool, ForeignPicker]]:
    """Every pool that has a picker of its own."""
    for pool in model.pools.values():
        if pool.picker is not None:
            yield pool, pool.picker


def _picker(pool: Pool, picker: ForeignPicker, settings: EnvoySettings) -> Json:
    limit = settings.requests_per_pool_max
    keepalive: Json = {"interval": seconds(_PING_S), "timeout": seconds(_PING_S)}
    options = typed(
        _HTTP, explicit_http_config={"http2_protocol_options": {"connection_keepalive": keepalive}}
    )
    return {
        "name": picker_cluster(pool.name),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
        "connect_timeout": seconds(settings.connect_timeout_s),
        "circuit_breakers": {
            "thresholds": [{"max_pending_requests": limit, "max_requests": limit}]
        },
        "typed_extension_protocol_options": {_HTTP: options},
        **_transport(picker),
    }


def _transport(picker: ForeignPicker) -> Json:
    if picker.tls is PickerTls.OFF:
        return {}
    common: dict[str, JsonValue] = {"alpn_protocols": ["h2"]}
    if picker.tls is PickerTls.VERIFY:
        common["validation_context"] = {
            "trusted_ca": _authorities(picker),
            "match_typed_subject_alt_names": [
                {"san_type": "DNS", "matcher": {"exact": picker.server_name}}
            ],
        }
    config = typed(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni=picker.server_name,
        common_tls_context=common,
    )
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": config}}


def _authorities(picker: ForeignPicker) -> Json:
    if picker.authorities:
        return {"inline_string": picker.authorities}
    return {"filename": picker.authorities_file}
