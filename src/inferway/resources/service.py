"""Service: a plain backend behind a name, with ports. Its endpoints come from EndpointSlices.

The whole core/v1 shape that a Kubernetes API answers for the common types decodes. What concerns
the node network (cluster IPs, node ports, traffic policies) has no effect here: the gateway goes to
the endpoints itself.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .meta import Model, Object
from .scalars import (
    Boolean,
    Count,
    LabelKey,
    LabelValue,
    PortName,
    PortNumber,
    PortOrName,
    Protocol,
)
from .violations import Violation, reject

PORTS_MAX = 250
_NO_EFFECT = "no effect"

IpFamily = Literal["IPv4", "IPv6"]
TransportProtocol = Literal["TCP", "UDP", "SCTP"]


class ServicePort(Model):
    name: PortName = Field(
        default="", description="needed when there are several ports; EndpointSlices match by it"
    )
    port: PortNumber
    protocol: TransportProtocol = "TCP"
    target_port: PortOrName | None = Field(
        default=None,
        description="port of selected ModelServers whose addresses have none; unset: `port`",
    )
    app_protocol: Protocol | None = Field(
        default=None, description="`http` or unset: HTTP/1.1; `kubernetes.io/h2c`: HTTP/2"
    )
    node_port: Count | None = Field(default=None, description=_NO_EFFECT)


class ServiceSpec(Model):
    ports: Annotated[tuple[ServicePort, ...], Field(max_length=PORTS_MAX)] = ()
    selector: Mapping[LabelKey, LabelValue] = Field(
        default_factory=dict,
        description="without EndpointSlices: the ModelServers of the namespace with these labels",
    )
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = Field(
        default="ClusterIP", description="routes cannot use an ExternalName"
    )
    external_name: str | None = Field(default=None, description="of type ExternalName")
    publish_not_ready_addresses: Boolean = Field(default=False, description=_NO_EFFECT)
    cluster_ip: str | None = Field(default=None, alias="clusterIP", description=_NO_EFFECT)
    cluster_ips: tuple[str, ...] = Field(default=(), alias="clusterIPs", description=_NO_EFFECT)
    ip_families: tuple[IpFamily, ...] = Field(default=(), description=_NO_EFFECT)
    ip_family_policy: str | None = Field(default=None, description=_NO_EFFECT)
    session_affinity: Literal["None", "ClientIP"] = Field(default="None", description=_NO_EFFECT)
    internal_traffic_policy: str | None = Field(default=None, description=_NO_EFFECT)
    external_traffic_policy: str | None = Field(default=None, description=_NO_EFFECT)
    traffic_distribution: str | None = Field(default=None, description=_NO_EFFECT)
    allocate_load_balancer_node_ports: Boolean | None = Field(default=None, description=_NO_EFFECT)

    @model_validator(mode="after")
    def _ports_are_told_apart(self) -> Self:
        found = []
        names: dict[str, int] = {}
        places: dict[tuple[int, str], int] = {}
        for index, port in enumerate(self.ports):
            if len(self.ports) > 1 and not port.name:
                message = "a name is needed when there are several ports"
                found.append(Violation(message, ("ports", index, "name")))
            elif names.setdefault(port.name, index) != index:
                message = f"port name must be unique: {port.name}"
                found.append(Violation(message, ("ports", index, "name")))
            if places.setdefault((port.port, port.protocol), index) != index:
                message = f"port and protocol must be unique: {port.port} {port.protocol}"
                found.append(Violation(message, ("ports", index, "port")))
        if self.type == "ExternalName" and not self.external_name:
            found.append(Violation("type ExternalName needs externalName", ("externalName",)))
        if self.type != "ExternalName" and not self.ports:
            found.append(Violation("needs at least 1: 0", ("ports",)))
        reject(found)
        return self


class Service(Object):
    api_version: Literal["v1"] = "v1"
    kind: Literal["Service"] = "Service"
    spec: ServiceSpec
