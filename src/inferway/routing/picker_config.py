"""What the picker has to know of a routing model: pools, with endpoints as addresses to dial.

Problem: manifests name servers by IP or DNS name, while the picker, the destination header and
Envoy's host list must all use one spelling of `ip:port`. Model: `hosts_to_resolve` says which names
the caller has to look up, `pool_targets` combines the answers with the model. Invariants: addresses
are unique inside a pool and ordered as the model orders endpoints, then as the resolver answered; a
name without an answer gives no endpoint. No look-up happens here, and the types are this room's
own: control translates them into the picker's messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferway.resources import EndpointPickerConfig
    from inferway.routing.foreign_pickers import ForeignPicker
    from inferway.routing.model import KvEvents, Pool, Rewrite, RoutingModel, ServerGroup


@dataclass(frozen=True, slots=True)
class ResolvedEndpoint:
    address: str  # ip:port or [ip6]:port
    server: str  # namespace/name of the ModelServer
    engine: str
    metrics_path: str
    labels: tuple[tuple[str, str], ...] = ()
    draining: bool = False
    kv_events: KvEvents | None = None  # as the server says
    place: int = 0  # among the server's endpoints on the same host


@dataclass(frozen=True, slots=True)
class PoolTargets:
    name: str  # namespace/name of the InferencePool
    policy: str
    picker_config: EndpointPickerConfig | None  # None: every default
    objectives: tuple[tuple[str, int], ...]  # (objective name, priority)
    rewrites: tuple[Rewrite, ...]
    endpoints: tuple[ResolvedEndpoint, ...]


def is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def endpoint_address(ip: str, port: int) -> str:
    """`ip:port` in the spelling that everyone uses: shortest form, IPv6 in brackets."""
    parsed = ip_address(ip)
    host = f"[{parsed}]" if isinstance(parsed, IPv6Address) else str(parsed)
    return f"{host}:{port}"


def addresses_of(host: str, resolve: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The IP addresses behind a host, each in its shortest form: the host itself, or what its name
    resolved to, in that order; none while nothing is known.
    """
    found = (host,) if is_ip(host) else resolve.get(host, ())
    return tuple(ip_address(one).compressed for one in found)


def hosts_to_resolve(model: RoutingModel) -> tuple[str, ...]:
    """The DNS names among all endpoints of pools, their pickers and server groups, sorted."""
    backends: list[Pool | ServerGroup | ForeignPicker] = [
        *model.pools.values(),
        *model.server_groups.values(),
        *(pool.picker for pool in model.pools.values() if pool.picker is not None),
    ]
    hosts = {endpoint.host for backend in backends for endpoint in backend.endpoints}
    return tuple(sorted(host for host in hosts if not is_ip(host)))


def pool_targets(
    model: RoutingModel, resolve: Mapping[str, tuple[str, ...]]
) -> tuple[PoolTargets, ...]:
    """Every pool with resolved endpoints; `resolve` maps DNS names to IP addresses."""
    return tuple(_targets(pool, resolve) for pool in model.pools.values())


def _targets(pool: Pool, resolve: Mapping[str, tuple[str, ...]]) -> PoolTargets:
    endpoints: dict[str, ResolvedEndpoint] = {}
    for endpoint in pool.endpoints:
        for ip in addresses_of(endpoint.host, resolve):
            address = endpoint_address(ip, endpoint.port)
            endpoints.setdefault(
                address,
                ResolvedEndpoint(
                    address=address,
                    server=endpoint.server,
                    engine=endpoint.engine,
                    metrics_path=endpoint.metrics_path,
                    labels=endpoint.labels,
                    draining=endpoint.draining,
                    kv_events=endpoint.kv_events,
                    place=endpoint.place,
                ),
            )
    return PoolTargets(
        name=pool.name,
        policy=pool.policy,
        picker_config=pool.picker_config,
        objectives=pool.objectives,
        rewrites=pool.rewrites,
        endpoints=tuple(endpoints.values()),
    )
