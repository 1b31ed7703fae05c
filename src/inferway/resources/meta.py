"""What every resource has: the strict model base, metadata, and the object that carries both.

Invariants: models are frozen; a manifest may use the camelCase names only (code may also use the
Python names); an unknown field is an error; `null` means "not set", as the Kubernetes API treats
it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from .scalars import Between, DnsName, LabelKey, LabelValue, Namespace
from .violations import Violation, reject


class Model(BaseModel):
    """Base of every part of a resource."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_unset(cls, value: object) -> object:
        if isinstance(value, dict) and None in value.values():
            known = {field.alias for field in cls.model_fields.values()} | cls.model_fields.keys()
            return {
                key: item for key, item in value.items() if item is not None or key not in known
            }
        return value


def _only_text(value: object) -> object:
    """Numbers are no timestamps, although pydantic would read them as such."""
    if not isinstance(value, str | datetime):
        reject([Violation("must be a timestamp such as 2025-01-31T12:00:00Z")])
    return value


class ObjectMeta(Model):
    """Metadata. What only the API server writes is accepted, so that `kubectl get -o yaml` loads;
    of it only uid, generation and creationTimestamp are kept.
    """

    name: DnsName
    namespace: Namespace = "default"
    labels: Mapping[LabelKey, LabelValue] = Field(default_factory=dict)
    annotations: Mapping[LabelKey, str] = Field(default_factory=dict)
    generation: Annotated[int, Between(0, 2**63 - 1)] = 1
    uid: str | None = None
    creation_timestamp: Annotated[AwareDatetime, BeforeValidator(_only_text)] | None = None


class ResourceKey(NamedTuple):
    """Identity of an object. `pool` is used by objectives, models and rewrites: several may share a
    name when each is for another pool.
    """

    group: str
    kind: str
    namespace: str  # empty for cluster-scoped kinds
    name: str
    pool: str = ""


class Object(Model):
    """A resource: kind, version, metadata; subclasses add `spec`."""

    api_version: str
    kind: str
    metadata: ObjectMeta

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Empty for a cluster-scoped kind."""
        return self.metadata.namespace

    @property
    def qualified_name(self) -> str:
        """`namespace/name`, or `name` when cluster-scoped: how people and the routing model call
        it.
        """
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def key(self) -> ResourceKey:
        return ResourceKey(self.group, self.kind, self.namespace, self.name)

    def says_the_same(self, other: "Object") -> bool:
        """Whether two versions of one object differ in nothing but metadata."""
        return self.model_copy(update={"metadata": other.metadata}) == other

    def manifest(self) -> dict[str, object]:
        """The object as a manifest: camelCase names, defaults filled in, unset fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ClusterObject(Object):
    """A resource of a kind that has no namespaces."""

    @property
    def namespace(self) -> str:
        return ""

    @model_validator(mode="after")
    def _has_no_namespace(self) -> Self:
        if "namespace" in self.metadata.model_fields_set:
            message = f"a {self.kind} is cluster-scoped and has no namespace"
            reject([Violation(message, ("metadata", "namespace"), "remove metadata.namespace")])
        return self
