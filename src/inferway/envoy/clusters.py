"""Pools and plain backends → Envoy clusters and their endpoints.

Problem: Envoy must send a request to exactly the endpoint that the picker names, and do something
sensible when nobody names one. Model: every pool is a cluster whose balancing policy takes the host
from a header and otherwise falls back to the endpoint with the fewest requests; a plain backend has
only the latter. Addresses come by EDS, so that an endpoint that joins or leaves never touches the
cluster or its connections. Invariants: endpoints are `ip:port` (`[ip6]:port`), the same text that
the picker uses; a DNS name that has no address yet is no endpoint; equal addresses stand once, in
order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from inferway.envoy.health_checks import endpoint_check, health_check
from inferway.envoy.messages import Json, Resource, ResourceType, resource, seconds, typed
from inferway.observability.names import DESTINATION_HEADER
from inferway.resources.picker_conduct import RetryBudget
from inferway.resources.scalars import percent_ratio
from inferway.routing.model import Pool
from inferway.routing.picker_config import addresses_of

if TYPE_CHECKING:
    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.model import Endpoint, RoutingModel, ServerGroup

Resolved = Mapping[str, Sequence[str]]
"""DNS name to its IP addresses."""

_POLICIES = "envoy.load_balancing_policies"
_POLICY_MESSAGES = "envoy.extensions.load_balancing_policies"
_NOTHING: Json = {}
_ADS: Json = {"ads": {}, "resource_api_version": "V3"}


def pool_cluster(name: str) -> str:
    """Cluster name of a pool given as namespace/name."""
    return f"pool/{name}"


def servers_cluster(name: str) -> str:
    """Cluster name of a ServerGroup."""
    return f"servers/{name}"


def picker_cluster(pool: str) -> str:
    """Cluster name of the foreign picker of a pool."""
    return f"picker/{pool}"


def clusters(model: RoutingModel, settings: EnvoySettings) -> tuple[Resource, ...]:
    """One cluster per pool and per server group, by name."""
    contents = [_pool(pool, settings) for pool in model.pools.values()]
    contents += [_servers(group, settings) for group in model.server_groups.values()]
    return _by_name(resource(ResourceType.CLUSTER, content) for content in contents)


def load_assignments(model: RoutingModel, resolved: Resolved) -> tuple[Resource, ...]:
    """The endpoints of every cluster; an empty assignment where no address is known."""
    contents = [
        _assignment(pool_cluster(pool.name), pool, resolved) for pool in model.pools.values()
    ]
    contents += [
        _assignment(servers_cluster(group.name), group, resolved)
        for group in model.server_groups.values()
    ]
    contents += [
        _addresses(picker_cluster(pool.name), pool.picker.endpoints, resolved)
        for pool in model.pools.values()
        if pool.picker is not None
    ]
    return _by_name(resource(ResourceType.ENDPOINTS, content) for content in contents)


def endpoint_addresses(
    endpoints: Iterable[Endpoint], resolved: Resolved
) -> dict[tuple[str, int], Endpoint]:
    """Canonical (ip, port) pairs of the endpoints whose address is known, sorted, each with the
    first endpoint that has it.
    """
    found: dict[tuple[str, int], Endpoint] = {}
    for endpoint in endpoints:
        for address in addresses_of(endpoint.host, resolved):
            found.setdefault((address, endpoint.port), endpoint)
    return dict(sorted(found.items()))


def _by_name(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    return tuple(sorted(resources, key=lambda one: one.name))


def _assignment(cluster: str, backend: Pool | ServerGroup, resolved: Resolved) -> Json:
    return _addresses(cluster, backend.endpoints, resolved, endpoint_check(backend.health))


def _addresses(
    cluster: str, endpoints: Iterable[Endpoint], resolved: Resolved, extra: Json = _NOTHING
) -> Json:
    return {
        "cluster_name": cluster,
        "endpoints": [
            {
                "lb_endpoints": [
                    {
                        "endpoint": {"address": socket_address(address, port), **extra},
                        **({"health_status": "DRAINING"} if endpoint.draining else {}),
                    }
                    for (address, port), endpoint in endpoint_addresses(endpoints, resolved).items()
                ]
            }
        ],
    }


def socket_address(address: str, port: int) -> Json:
    """Envoy's address message of a TCP address."""
    return {"socket_address": {"address": address, "port_value": port}}


def _pool(pool: Pool, settings: EnvoySettings) -> Json:
    override: Json = _policy(
        "override_host",
        "OverrideHost",
        override_host_sources=[{"header": DESTINATION_HEADER}, *_noted(pool)],
        fallback_policy=_least_request(),
    )
    return _cluster(pool_cluster(pool.name), override, pool, settings)


def _noted(pool: Pool) -> list[Json]:
    """A foreign picker says its choice as dynamic metadata too, or only so."""
    if pool.picker is None:
        return []
    return [{"metadata": {"key": "envoy.lb", "path": [{"key": DESTINATION_HEADER}]}}]


def _servers(group: ServerGroup, settings: EnvoySettings) -> Json:
    return _cluster(servers_cluster(group.name), _least_request(), group, settings)


def _least_request() -> Json:
    # A full scan instead of the usual two random choices: a pool has tens of endpoints, a request
    # runs for seconds, and one placed badly costs far more than the scan.
    return _policy("least_request", "LeastRequest", selection_method="FULL_SCAN")


def _policy(name: str, message: str, **fields: Json | Sequence[Json] | str) -> Json:
    config = typed(f"{_POLICY_MESSAGES}.{name}.v3.{message}", **fields)
    return {
        "policies": [
            {"typed_extension_config": {"name": f"{_POLICIES}.{name}", "typed_config": config}}
        ]
    }


def _cluster(name: str, policy: Json, backend: Pool | ServerGroup, settings: EnvoySettings) -> Json:
    limit = settings.requests_per_pool_max
    protocol = protocol_options(backend.h2c, settings)
    return {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _ADS},
        "connect_timeout": seconds(settings.connect_timeout_s),
        "per_connection_buffer_limit_bytes": settings.connection_buffer_bytes,
        "load_balancing_policy": policy,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": limit,
                    "max_pending_requests": limit,
                    "max_requests": limit,
                    "retry_budget": _retry_budget(backend),
                }
            ]
        },
        # A host that vanished without closing its connections is noticed after about a minute.
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_time": 30, "keepalive_interval": 10, "keepalive_probes": 3}
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol
        },
        "health_checks": [health_check(backend.health, backend.name, h2c=backend.h2c)],
        # An endpoint that is taken out of the manifests is out, however healthy; what runs there
        # goes on to its end.
        "ignore_health_on_host_removal": True,
        # With not one healthy endpoint all are tried: a check that is wrong for every server, or
        # new servers that were not asked yet, must not fail requests that would be served.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
    }


def _retry_budget(backend: Pool | ServerGroup) -> Json:
    """When half of a backend dies, the other half gets each request once more; when all of it is
    in trouble, it is not asked three times for everything.
    """
    config = backend.picker_config if isinstance(backend, Pool) else None
    conduct = config.conduct if config is not None else None
    budget = conduct.retry_budget if conduct is not None else RetryBudget()
    return {
        "budget_percent": {"value": percent_ratio(budget.percent) * 100},
        "min_retry_concurrency": budget.concurrency_min,
    }


def protocol_options(h2c: bool, settings: EnvoySettings) -> Json:
    """How a cluster speaks HTTP to its endpoints."""
    http2: Json = {
        "http2_protocol_options": {
            "max_concurrent_streams": settings.streams_per_connection_max,
            "connection_keepalive": {"interval": "30s", "timeout": "10s"},
        }
    }
    return typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        common_http_protocol_options={"idle_timeout": seconds(settings.upstream_idle_timeout_s)},
        explicit_http_config=http2 if h2c else {"http_protocol_options": {}},
    )


def way_in(name: str, *, requests_max: int, buffer_bytes: int, settings: EnvoySettings) -> Resource:
    """The cluster that leads to the listener inside Envoy of the same name (inside.py)."""
    inside: Json = {"envoy_internal_address": {"server_listener_name": name}}
    content: Json = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(settings.connect_timeout_s),
        "per_connection_buffer_limit_bytes": buffer_bytes,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": inside}}]}],
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": requests_max,
                    "max_pending_requests": requests_max,
                    "max_requests": requests_max,
                    "max_retries": requests_max,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol_options(
                False, settings
            )
        },
    }
    return resource(ResourceType.CLUSTER, content)
