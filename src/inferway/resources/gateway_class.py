"""GatewayClass: which controller implements the gateways of a class. Cluster-scoped."""

from typing import Annotated, Literal

from pydantic import Field

from .meta import ClusterObject, Model
from .scalars import ControllerName, Group, Kind, Namespace, ObjectName


class ParametersReference(Model):
    group: Group
    kind: Kind
    name: ObjectName
    namespace: Namespace | None = None


class GatewayClassSpec(Model):
    controller_name: ControllerName
    parameters_ref: ParametersReference | None = None
    description: Annotated[str, Field(max_length=64)] | None = None


class GatewayClass(ClusterObject):
    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"] = (
        "gateway.networking.k8s.io/v1"
    )
    kind: Literal["GatewayClass"] = "GatewayClass"
    spec: GatewayClassSpec
