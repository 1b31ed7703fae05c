"""All resources of one moment, with where each came from.

Invariants: frozen; iteration order is the order in which objects were read (files sorted, then
position), so everything derived from a set is deterministic; keys are unique. `assemble` is how a
set comes to be from several files: the first object of a name wins.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from .config_map import ConfigMap
from .endpoint_picker_config import EndpointPickerConfig
from .endpoint_slice import EndpointSlice
from .gateway import Gateway
from .gateway_class import GatewayClass
from .gcp_backend_policy import GCPBackendPolicy
from .health_check_policy import HealthCheckPolicy
from .http_route import HTTPRoute
from .inference_model import InferenceModel
from .inference_model_rewrite import InferenceModelRewrite
from .inference_objective import InferenceObjective
from .inference_pool import InferencePool
from .meta import Object, ResourceKey
from .model_server import ModelServer
from .namespace import Namespace
from .problems import Problem, Severity
from .reference_grant import ReferenceGrant
from .rollout import Rollout
from .secret import Secret
from .service import Service

Resource = (
    ConfigMap
    | EndpointPickerConfig
    | EndpointSlice
    | GCPBackendPolicy
    | Gateway
    | GatewayClass
    | HealthCheckPolicy
    | HTTPRoute
    | InferenceModel
    | InferenceModelRewrite
    | InferenceObjective
    | InferencePool
    | ModelServer
    | Namespace
    | ReferenceGrant
    | Rollout
    | Secret
    | Service
)
_Kind = TypeVar("_Kind", bound=Object)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object begins. `file` is as the user gave it; line and column count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Entry:
    resource: Resource
    origin: Origin


@dataclass(frozen=True, slots=True)
class ResourceSet:
    entries: Mapping[ResourceKey, Entry] = field(default_factory=lambda: MappingProxyType({}))

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Resource]:
        return (entry.resource for entry in self.entries.values())

    def __contains__(self, key: ResourceKey) -> bool:
        return key in self.entries

    def of_kind(self, kind: type[_Kind]) -> tuple[_Kind, ...]:
        """Every object of one kind, in order."""
        return tuple(
            entry.resource for entry in self.entries.values() if isinstance(entry.resource, kind)
        )

    def find(self, kind: type[_Kind], *, namespace: str, name: str) -> _Kind | None:
        """The first object of that kind and name; `namespace` is empty for cluster-scoped kinds."""
        for resource in self.of_kind(kind):
            if resource.name == name and resource.namespace == namespace:
                return resource
        return None

    def origin(self, resource: Object) -> Origin:
        """Raises KeyError when the object is not in the set."""
        return self.entries[resource.key].origin

    @property
    def gateway_classes(self) -> tuple[GatewayClass, ...]:
        return self.of_kind(GatewayClass)

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        return self.of_kind(Gateway)

    @property
    def http_routes(self) -> tuple[HTTPRoute, ...]:
        return self.of_kind(HTTPRoute)

    @property
    def pools(self) -> tuple[InferencePool, ...]:
        return self.of_kind(InferencePool)

    @property
    def objectives(self) -> tuple[InferenceObjective, ...]:
        return self.of_kind(InferenceObjective)

    @property
    def models(self) -> tuple[InferenceModel, ...]:
        return self.of_kind(InferenceModel)

    @property
    def model_rewrites(self) -> tuple[InferenceModelRewrite, ...]:
        return self.of_kind(InferenceModelRewrite)

    @property
    def model_servers(self) -> tuple[ModelServer, ...]:
        return self.of_kind(ModelServer)

    @property
    def picker_configs(self) -> tuple[EndpointPickerConfig, ...]:
        return self.of_kind(EndpointPickerConfig)

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        return self.of_kind(Rollout)


def assemble(entries: Iterable[Entry]) -> tuple[ResourceSet, tuple[Problem, ...]]:
    """The set of `entries` in order. A second object with the key of an earlier one is left out and
    is a problem; objects of one name for several pools are all kept, with a warning.
    """
    kept: dict[ResourceKey, Entry] = {}
    problems = []
    for entry in entries:
        first = kept.setdefault(entry.resource.key, entry)
        if first is not entry:
            problems.append(_duplicate(entry, first))
    named: dict[ResourceKey, Entry] = {}
    for key, entry in kept.items():
        first = named.setdefault(key._replace(pool=""), entry)
        if first is not entry:
            problems.append(_shared_name(entry, first))
    return ResourceSet(MappingProxyType(kept)), tuple(problems)


def _duplicate(second: Entry, first: Entry) -> Problem:
    resource = second.resource
    return Problem(
        Severity.ERROR,
        second.origin.file,
        second.origin.line,
        second.origin.column,
        "metadata.name",
        f"{resource.kind} {resource.qualified_name} is already defined at {first.origin}",
        "rename or remove one of the two",
    )


def _shared_name(second: Entry, first: Entry) -> Problem:
    resource = second.resource
    return Problem(
        Severity.WARNING,
        second.origin.file,
        second.origin.line,
        second.origin.column,
        "metadata.name",
        f"{resource.kind} {resource.qualified_name} is defined at {first.origin} for another pool; "
        "both are used",
        "Kubernetes allows one object of a name; rename one of the two before moving there",
    )
