"""What Envoy's health checks have found, from its admin interface.

Problem: the picker must not choose an endpoint that Envoy holds unhealthy, and people want to see
which those are. Model: the answer of `/clusters` names every endpoint of every cluster with its
flags; here it becomes a yes or no per endpoint and pool. An endpoint that was not asked yet has
neither: unknown is not bad. Total: what cannot be understood is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from inferway.envoy.clusters import pool_cluster, servers_cluster
from inferway.routing.picker_config import endpoint_address

if TYPE_CHECKING:
    from inferway.envoy.messages import JsonValue

Found: TypeAlias = Mapping[str, Mapping[str, bool]]
"""Pool (namespace/name) to the addresses that were checked: whether each is healthy."""
Unhealthy: TypeAlias = Mapping[str, frozenset[str]]
"""Pool (namespace/name) to the addresses of its unhealthy endpoints; pools without are absent."""

_PREFIX = pool_cluster("")
_BACKENDS = (_PREFIX, servers_cluster(""))


def checked_endpoints(text: str) -> Found:
    """From the body of `/clusters?format=json`. ValueError when it is no JSON."""
    found: dict[str, dict[str, bool]] = {}
    for cluster in _entries(json.loads(text), "cluster_statuses"):
        name = cluster.get("name")
        if not isinstance(name, str) or not name.startswith(_PREFIX):
            continue
        pool = found.setdefault(name.removeprefix(_PREFIX), {})
        for host in _entries(cluster, "host_statuses"):
            address, healthy = _address(host), _is_healthy(host)
            if address and healthy is not None:
                pool[address] = healthy
    return found


def backends_without_server(text: str) -> tuple[str, ...]:
    """Names of the clusters of pools and plain backends that have endpoints of which none has
    passed a check. From the body of `/clusters?format=json`; ValueError when it is no JSON.
    """
    found = []
    for cluster in _entries(json.loads(text), "cluster_statuses"):
        name, hosts = cluster.get("name"), _entries(cluster, "host_statuses")
        is_backend = isinstance(name, str) and name.startswith(_BACKENDS)
        if is_backend and hosts and not any(_is_healthy(host) for host in hosts):
            found.append(str(name))
    return tuple(found)


def _is_healthy(host: Mapping[str, JsonValue]) -> bool | None:
    """None: not asked yet."""
    match host.get("health_status"):
        case {"pending_active_hc": True}:
            return None
        case {"failed_active_health_check": True}:
            return False
    return True


def _address(host: Mapping[str, JsonValue]) -> str:
    match host.get("address"):
        case {"socket_address": {"address": str(ip), "port_value": int(port)}}:
            return endpoint_address(ip, port)
    return ""


def _entries(value: JsonValue, name: str) -> list[Mapping[str, JsonValue]]:
    items = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(items, list):
        return []
    return [item for item in items if isinstance(item, Mapping)]
