"""GatewayClass: which controller implements the gateways of a class. Cluster-scoped."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .meta import Model, Object
from .scalars import ControllerName, Group, Kind, Namespace, ObjectName
from .violations import Violation, reject


class ParametersReference(Model):
    group: Group
    kind: Kind
    name: ObjectName
    namespace: Namespace | None = None


class GatewayClassSpec(Model):
    controller_name: ControllerName
    parameters_ref: ParametersReference | None = None
    description: Annotated[str, Field(max_length=64)] | None = None


class GatewayClass(Object):
    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"] = (
        "gateway.networking.k8s.io/v1"
    )
    kind: Literal["GatewayClass"] = "GatewayClass"
    spec: GatewayClassSpec

    @property
    def namespace(self) -> str:
        return ""

    @model_validator(mode="after")
    def _has_no_namespace(self) -> Self:
        if "namespace" in self.metadata.model_fields_set:
            message = "a GatewayClass is cluster-scoped and has no namespace"
            reject([Violation(message, ("metadata", "namespace"), "remove metadata.namespace")])
        return self
