"""One consistent set of xDS resources, with a version per type.

Problem: Envoy receives these types separately, but they only make sense together. Model: a snapshot
is built whole from one routing model and never changes. A type's version is a hash of its content,
so that a change of endpoints does not send listeners again, and the same manifests always give the
same versions, after a restart too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inferway.envoy.clusters import Resolved, clusters, load_assignments
from inferway.envoy.filters import filter_configurations
from inferway.envoy.listeners import listeners
from inferway.envoy.messages import Resource, ResourceType
from inferway.envoy.mirror_listeners import mirror_listeners
from inferway.envoy.mirrors import mirror_clusters
from inferway.envoy.picked import picked_listeners
from inferway.envoy.picker_clusters import picked_clusters
from inferway.envoy.relays import relay_clusters, relay_listeners
from inferway.envoy.route_actions import Forwarding, pool_action
from inferway.envoy.routes import Models, route_configurations
from inferway.envoy.tls import secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.model import RoutingModel

_VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All resources of one type, by name, and the version that stands for their content."""

    resources: Mapping[str, Resource] = field(default_factory=dict)
    version: str = ""

    @staticmethod
    def of(resources: Iterable[Resource]) -> ResourceSet:
        """Sorts by name. A name that occurs twice keeps its last resource."""
        by_name = {one.name: one for one in resources}
        ordered = {name: by_name[name] for name in sorted(by_name)}
        return ResourceSet(
            ordered, _digest(part for one in ordered.values() for part in _parts(one))
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything Envoy should know at one moment."""

    clusters: ResourceSet
    endpoints: ResourceSet
    listeners: ResourceSet
    routes: ResourceSet
    secrets: ResourceSet = field(default_factory=lambda: ResourceSet.of(()))
    extensions: ResourceSet = field(default_factory=lambda: ResourceSet.of(()))

    @property
    def version(self) -> str:
        """Stands for the content of all types together."""
        return _digest(self.of(kind).version.encode() for kind in ResourceType)

    def of(self, kind: ResourceType) -> ResourceSet:
        """The resources of one type."""
        match kind:
            case ResourceType.CLUSTER:
                return self.clusters
            case ResourceType.ENDPOINTS:
                return self.endpoints
            case ResourceType.LISTENER:
                return self.listeners
            case ResourceType.ROUTES:
                return self.routes
            case ResourceType.SECRET:
                return self.secrets
            case ResourceType.EXTENSION:
                return self.extensions


def build_snapshot(
    model: RoutingModel,
    *,
    resolved: Resolved,
    models: Models,
    settings: EnvoySettings,
    pick_socket: Path,
) -> Snapshot:
    """What Envoy must be told for this model. Raises InvalidResourceError when it cannot be
    expressed.

    `resolved` maps DNS names of endpoints to their addresses, `models` a listener to what its
    `/v1/models` lists, and `pick_socket` is where the filter finds the picker.
    """
    to = Forwarding(model, settings)
    return Snapshot(
        clusters=ResourceSet.of(
            (
                *clusters(model, settings),
                *mirror_clusters(model, settings),
                *picked_clusters(model, settings),
                *relay_clusters(model, settings),
            )
        ),
        endpoints=ResourceSet.of(load_assignments(model, resolved)),
        listeners=ResourceSet.of(
            (
                *listeners(model, settings, pick_socket),
                *mirror_listeners(model, settings, pick_socket),
                *picked_listeners(model, settings, lambda pool: pool_action(pool, to)),
                *relay_listeners(model, settings, pick_socket),
            )
        ),
        routes=ResourceSet.of(route_configurations(model, models, settings)),
        secrets=ResourceSet.of(secrets(model)),
        extensions=ResourceSet.of(filter_configurations(model, models, settings)),
    )


def _parts(one: Resource) -> tuple[bytes, bytes]:
    return one.name.encode(), one.body


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:_VERSION_DIGITS]
