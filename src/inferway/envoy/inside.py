"""Listeners inside Envoy.

Some requests need a filter chain of their own: copies that are picked for (mirror_listeners.py),
pools with a foreign picker (picked.py), streams that wait for long (relays.py). Model: an internal
listener, reached through a cluster of the same name (`clusters.way_in`). Bytes cross in
memory; nothing listens on a socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.envoy.listeners import connection_manager, router_filter
from inferway.envoy.messages import Json, Resource, ResourceType, resource, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.envoy.settings import EnvoySettings


def one_host(name: str, host: Json) -> Json:
    """Routes of a listener that is for one backend."""
    return {"route_config": {"name": name, "virtual_hosts": [host]}}


def listener_inside(
    name: str,
    *,
    stat_prefix: str,
    routes: Json,
    filters: Sequence[Json],
    settings: EnvoySettings,
    options: Json,
    upstream_logs: Sequence[Json] = (),
) -> Resource:
    """The listener `name`: these routes (`route_config` or `rds`) behind these filters. `options`
    are further fields of its connection manager. Who is asking, and under which id, was settled
    outside.
    """
    manager = connection_manager(
        stat_prefix=stat_prefix,
        http_filters=[*filters, router_filter(*upstream_logs)],
        request_timeout="0s",
        stream_idle_timeout=seconds(settings.idle_timeout_s),
        skip_xff_append=True,
        generate_request_id=True,
        preserve_external_request_id=True,
        **routes,
        **options,
    )
    content: Json = {
        "name": name,
        "internal_listener": {},
        "per_connection_buffer_limit_bytes": settings.connection_buffer_bytes,
        "filter_chains": [{"filters": [manager]}],
    }
    return resource(ResourceType.LISTENER, content)
