"""References from one object to another, with the defaults that Gateway API gives them.

Whether the referent exists, and whether a reference may cross namespaces, is decided in routing and
reported in status.
"""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from .meta import Model
from .scalars import Group, Kind, LabelKey, Namespace, ObjectName, PortNumber, SectionName
from .violations import Violation, reject

GATEWAY_GROUP = "gateway.networking.k8s.io"
INFERENCE_GROUP = "inference.networking.k8s.io"
# Where objectives and rewrites live now; their old group is read as well, after it.
NEWER_GROUP = "llm-d.ai"


class ParentReference(Model):
    """`namespace` None: the namespace of the route."""

    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    namespace: Namespace | None = None
    name: ObjectName
    section_name: SectionName | None = None
    port: PortNumber | None = None


class LocalObjectReference(Model):
    group: Group
    kind: Kind
    name: ObjectName


class ObjectReference(Model):
    group: Group
    kind: Kind
    name: ObjectName
    namespace: Namespace | None = None


class SecretObjectReference(Model):
    group: Group = ""
    kind: Kind = "Secret"
    name: ObjectName
    namespace: Namespace | None = None


class BackendObjectReference(Model):
    """`namespace` None: the namespace of the referring object."""

    group: Group = ""
    kind: Kind = "Service"
    name: ObjectName
    namespace: Namespace | None = None
    port: PortNumber | None = None

    @model_validator(mode="after")
    def _service_needs_port(self) -> Self:
        if self.group == "" and self.kind == "Service" and self.port is None:
            hint = "set port, or group and kind when the backend is not a Service"
            reject([Violation("a reference to a Service needs a port", ("port",), hint)])
        return self


class LabelSelectorRequirement(Model):
    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _values_fit_operator(self) -> Self:
        if self.operator in ("In", "NotIn") and not self.values:
            reject([Violation(f"operator {self.operator} needs at least one value", ("values",))])
        if self.operator in ("Exists", "DoesNotExist") and self.values:
            reject([Violation(f"operator {self.operator} takes no values", ("values",))])
        return self


class LabelSelector(Model):
    """Kubernetes label selector; all conditions must hold, and an empty one selects everything."""

    match_labels: Mapping[LabelKey, str] = Field(default_factory=dict)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
