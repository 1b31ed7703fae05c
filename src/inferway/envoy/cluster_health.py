"""What Envoy's health checks have found, from its admin interface.

Problem: the picker must not choose an endpoint that Envoy holds unhealthy, and people want to see
which those are. Model: the answer of `/clusters` names every endpoint of every cluster with its
flags; here it becomes the set of unhealthy endpoints by pool. An endpoint that was not asked yet is
not unhealthy: unknown is not bad. Total: what cannot be understood is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from inferway.envoy.clusters import pool_cluster
from inferway.routing.picker_config import endpoint_address

if TYPE_CHECKING:
    from inferway.envoy.messages import JsonValue

Unhealthy: TypeAlias = Mapping[str, frozenset[str]]
"""Pool (namespace/name) to the addresses of its unhealthy endpoints; pools without are absent."""

_PREFIX = pool_cluster("")


def unhealthy_endpoints(text: str) -> Unhealthy:
    """From the body of `/clusters?format=json`. ValueError when it is no JSON."""
    found: dict[str, frozenset[str]] = {}
    for cluster in _entries(json.loads(text), "cluster_statuses"):
        name = cluster.get("name")
        if not isinstance(name, str) or not name.startswith(_PREFIX):
            continue
        bad = [_address(host) for host in _entries(cluster, "host_statuses") if _is_unhealthy(host)]
        addresses = frozenset(address for address in bad if address)
        if addresses:
            found[name.removeprefix(_PREFIX)] = addresses
    return found


def _is_unhealthy(host: Mapping[str, JsonValue]) -> bool:
    match host.get("health_status"):
        case {"pending_active_hc": True}:
            return False
        case {"failed_active_health_check": True}:
            return True
    return False


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
