"""Resources to the routing model and the status of every object.

Problem: resources reference each other by name, kind and label, across files and namespaces, and
any of it may be missing, forbidden or in conflict; the data plane needs one complete answer, and
the people who wrote the resources need to know what became of them. Model: judge Gateways and
listeners, build pools, resolve the routes' backends, attach routes to listeners, assemble. Pure and
total: any set of valid resources gives a model; what cannot be served is left out of it and
explained in a status. Invariant: the result does not depend on the order of the resources.

Cost: O(R log R) in route entries plus O(servers * labels); 500 routes over 100 pools take some
ten milliseconds. Nothing is cached between translations.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inferway.resources import ConfigMap, EndpointSlice, Namespace, ReferenceGrant, Secret, Service
from inferway.resources.references import ParentReference
from inferway.routing.attachment import attach, parent_gateway
from inferway.routing.authorities import Authorities
from inferway.routing.backend_policies import judge_backend_policies
from inferway.routing.backends import Backends
from inferway.routing.certificates import Certificates
from inferway.routing.client_validation import ClientValidations
from inferway.routing.defaults import DEFAULT_GATEWAY, complete
from inferway.routing.foreign_pickers import Pickers
from inferway.routing.gateway_classes import OurGateway, class_statuses, our_gateways
from inferway.routing.gateway_listeners import judge
from inferway.routing.gateway_status import gateway_status
from inferway.routing.gateway_warnings import gateway_warnings
from inferway.routing.grants import Grants
from inferway.routing.hostnames import pattern
from inferway.routing.listeners import model_listeners, used_certificates
from inferway.routing.model import RoutingModel, ServerGroup
from inferway.routing.names import judge_names
from inferway.routing.namespaces import NamespaceLabels
from inferway.routing.picker_configs import PickerConfigs
from inferway.routing.pools import ServerIndex, build_pools, server_statuses
from inferway.routing.rules import route_program
from inferway.routing.services import Services
from inferway.routing.splits import shared_names
from inferway.routing.status import (
    ObjectStatus,
    ParentStatus,
    Refusal,
    RoutingWarning,
    verdict,
)
from inferway.routing.virtual_hosts import AttachedRoute

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inferway.resources import HTTPRoute, ResourceSet
    from inferway.routing.attachment import Attachment
    from inferway.routing.gateway_listeners import ServedGateway
    from inferway.routing.pools import BuiltPool
    from inferway.routing.rules import RouteProgram
    from inferway.routing.settings import RoutingSettings


@dataclass(frozen=True, slots=True)
class Translation:
    """`statuses` are ordered by kind, namespace and name, one per object that is ours to report on;
    the made-up Gateway has one too. `Programmed` is pending in all of them.
    """

    model: RoutingModel
    statuses: tuple[ObjectStatus, ...]
    warnings: tuple[RoutingWarning, ...]


@dataclass(slots=True)
class _Attached:
    """What attaching all routes has found so far."""

    # Listener name to its routes by name: those that count, and those of them that are served.
    counted: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    served: defaultdict[str, dict[str, AttachedRoute]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    groups: dict[str, ServerGroup] = field(default_factory=dict)
    # Pool to the Gateways whose routes name it; None: at least one of these routes is accepted.
    pool_parents: defaultdict[str, dict[str, Refusal | None]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    splits: set[tuple[str, ...]] = field(default_factory=set)  # pools that share a rule
    statuses: list[ObjectStatus] = field(default_factory=list)
    warnings: list[RoutingWarning] = field(default_factory=list)


def translate(resources: ResourceSet, *, settings: RoutingSettings) -> Translation:
    """The routing model of these resources, and what became of each of them."""
    completed = complete(resources, settings)
    ours, class_warnings = our_gateways(resources.gateways, resources.gateway_classes, settings)
    if completed.gateway is not None:
        ours = (OurGateway(completed.gateway, refusal=None),)
    grants = Grants(resources.of_kind(ReferenceGrant))
    certificates = Certificates(resources.of_kind(Secret), grants)
    authorities = Authorities(resources.of_kind(ConfigMap))
    judged = judge(ours, certificates, ClientValidations(authorities, grants), settings)
    gateways = {one.gateway.qualified_name: one for one in judged}
    foreign = {one.qualified_name for one in resources.gateways} - gateways.keys()

    names = judge_names(resources)
    servers = ServerIndex(resources.model_servers)
    services = Services(resources.of_kind(Service), resources.of_kind(EndpointSlice), servers)
    pickers = Pickers(services, authorities, settings.system_ca_file)
    configs = PickerConfigs(resources, settings.picker_config_file)
    pools, pool_warnings = build_pools(
        resources.pools, servers, names.objectives, names.rewrites, pickers, configs, settings
    )
    backends = Backends(
        pools=pools,
        servers={server.qualified_name: server for server in resources.model_servers},
        services=services,
        grants=grants,
    )
    namespaces = NamespaceLabels(resources.of_kind(Namespace))
    attached = _attach_all(completed.routes, backends, gateways, foreign, namespaces, settings)
    if completed.stranded is not None:
        for name in pools:
            attached.pool_parents[name][DEFAULT_GATEWAY] = completed.stranded

    policies = judge_backend_policies(resources)
    plain = {one.server for group in attached.groups.values() for one in group.endpoints}
    counts = {name: len(routes) for name, routes in attached.counted.items()}
    written = {route.key for route in resources.http_routes}
    statuses = [
        *class_statuses(resources.gateway_classes, settings),
        *(gateway_status(one, counts) for one in gateways.values()),
        *(status for status in attached.statuses if status.key in written),
        *(_pool_status(one, attached.pool_parents, settings) for one in pools.values()),
        *names.statuses,
        *configs.statuses(),
        *policies.statuses,
        *server_statuses(resources.model_servers, pools.values(), plain),
    ]
    return Translation(
        model=RoutingModel(
            pools=shared_names(
                {name: policies.for_pool(one.pool) for name, one in pools.items()}, attached.splits
            ),
            server_groups={
                name: policies.for_group(group) for name, group in sorted(attached.groups.items())
            },
            listeners=model_listeners(gateways.values(), attached.served),
            certificates=used_certificates(gateways.values()),
            base_models=names.base_models,
        ),
        statuses=tuple(sorted(statuses, key=lambda one: (one.key.kind, *one.key[2:], one.key))),
        warnings=(
            *completed.warnings,
            *class_warnings,
            *gateway_warnings(one.gateway for one in ours),
            *pool_warnings,
            *configs.warnings(),
            *names.warnings,
            *policies.warnings,
            *attached.warnings,
        ),
    )


def _attach_all(
    routes: Iterable[HTTPRoute],
    backends: Backends,
    gateways: Mapping[str, ServedGateway],
    foreign: set[str],
    namespaces: NamespaceLabels,
    settings: RoutingSettings,
) -> _Attached:
    """Every route to every listener that it names; parents of other controllers are left alone."""
    attached = _Attached()
    for route in sorted(routes, key=lambda one: one.qualified_name):
        program = route_program(route, backends)
        attached.warnings += program.warnings
        hostnames = tuple(pattern(one) for one in route.spec.hostnames)
        if not route.spec.parent_refs:
            words = "the route names no parent: it serves nothing"
            attached.warnings.append(RoutingWarning(words, route.key, "spec.parentRefs"))
        parents = []
        for parent in route.spec.parent_refs:
            name = parent_gateway(parent, route.namespace)
            if name is None or name in foreign:
                continue
            found = attach(
                parent,
                namespace=route.namespace,
                hostnames=hostnames,
                gateways=gateways,
                namespaces=namespaces,
            )
            refusal = found.refusal or program.unsupported
            _record(attached, program, found, refusal, hostnames)
            parents.append(_route_parent(route, program, parent, refusal, settings))
        attached.statuses.append(ObjectStatus(route.key, parents=tuple(parents)))
    return attached


def _record(
    attached: _Attached,
    program: RouteProgram,
    found: Attachment,
    refusal: Refusal | None,
    hostnames: tuple[str, ...],
) -> None:
    """Enter one attachment. A route counts at its listeners even when it is not served."""
    for listener in found.listeners:
        attached.counted[listener.name].add(program.name)
        if refusal is None and listener.served:
            attached.served[listener.name][program.name] = AttachedRoute(
                program.name, hostnames, program.entries
            )
    if refusal is None:
        attached.groups.update((group.name, group) for group in program.groups)
        attached.splits.update(program.splits)
    if not found.exists:
        return
    for pool in program.pools:
        parents = attached.pool_parents[pool]
        if refusal is None:
            parents[found.gateway] = None
        else:
            words = f"HTTPRoute {program.name} is not accepted: {refusal.message}"
            parents.setdefault(found.gateway, Refusal("HTTPRouteNotAccepted", words))


def _route_parent(
    route: HTTPRoute,
    program: RouteProgram,
    parent: ParentReference,
    refusal: Refusal | None,
    settings: RoutingSettings,
) -> ParentStatus:
    generation = route.metadata.generation
    accepted = verdict("Accepted", refusal, generation=generation)
    resolved = verdict("ResolvedRefs", program.unresolved, generation=generation)
    return ParentStatus(parent, settings.controller_name, (accepted, resolved))


def _pool_status(
    built: BuiltPool,
    pool_parents: Mapping[str, Mapping[str, Refusal | None]],
    settings: RoutingSettings,
) -> ObjectStatus:
    """One parent per Gateway whose routes name the pool."""
    generation = built.resource.metadata.generation
    resolved = verdict("ResolvedRefs", built.refusal, generation=generation)
    parents = []
    for gateway, refusal in sorted(pool_parents.get(built.pool.name, {}).items()):
        accepted = verdict("Accepted", refusal, generation=generation, message=built.remark)
        namespace, _, name = gateway.partition("/")
        parent = ParentReference(namespace=namespace, name=name)
        parents.append(ParentStatus(parent, settings.controller_name, (accepted, resolved)))
    return ObjectStatus(built.resource.key, parents=tuple(parents))
