"""EndpointSlice: addresses behind a Service, and which of them take traffic.

The label `kubernetes.io/service-name` says which Service of the namespace; several slices of one
Service add up.
"""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .meta import Model, Object
from .model_server import normalise_host
from .scalars import Boolean, LabelKey, PortName, PortNumber, Protocol
from .service import TransportProtocol
from .violations import Violation, reject

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
ENDPOINTS_MAX = 1000
_NO_EFFECT = "no effect"


class EndpointConditions(Model):
    """Unset `ready` counts as true, unset `serving` as `ready`, unset `terminating` as false."""

    ready: Boolean | None = None
    serving: Boolean | None = None
    terminating: Boolean | None = None


class TargetReference(Model):
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    api_version: str | None = None
    resource_version: str | None = None
    field_path: str | None = None


class ZoneHint(Model):
    name: str


class NodeHint(Model):
    name: str


class EndpointHints(Model):
    for_zones: tuple[ZoneHint, ...] = ()
    for_nodes: tuple[NodeHint, ...] = ()


class SliceEndpoint(Model):
    addresses: Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = Field(default=None, description=_NO_EFFECT)
    target_ref: TargetReference | None = Field(default=None, description=_NO_EFFECT)
    deprecated_topology: Mapping[LabelKey, str] = Field(
        default_factory=dict, description=_NO_EFFECT
    )
    node_name: str | None = Field(default=None, description=_NO_EFFECT)
    zone: str | None = Field(default=None, description=_NO_EFFECT)
    hints: EndpointHints | None = Field(default=None, description=_NO_EFFECT)

    @property
    def is_ready(self) -> bool:
        return self.conditions.ready is not False

    @property
    def is_last_resort(self) -> bool:
        """Ending, but still answering: takes traffic only when no endpoint is ready."""
        serving = self.conditions.serving
        answers = self.is_ready if serving is None else serving
        return bool(self.conditions.terminating) and answers


class SlicePort(Model):
    name: PortName = Field(default="", description="the name of the Service's port")
    protocol: TransportProtocol = "TCP"
    port: PortNumber | None = Field(default=None, description="unset: the Service's targetPort")
    app_protocol: Protocol | None = Field(
        default=None, description="no effect: the Service's counts"
    )


class EndpointSlice(Object):
    api_version: Literal["discovery.k8s.io/v1"] = "discovery.k8s.io/v1"
    kind: Literal["EndpointSlice"] = "EndpointSlice"
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: Annotated[tuple[SliceEndpoint, ...], Field(max_length=ENDPOINTS_MAX)] = ()
    ports: Annotated[tuple[SlicePort, ...], Field(max_length=100)] = ()

    @property
    def service_name(self) -> str | None:
        return self.metadata.labels.get(SERVICE_NAME_LABEL)

    @model_validator(mode="after")
    def _addresses_fit_type(self) -> Self:
        reject(
            [
                Violation(
                    f"not an address of type {self.address_type}: {address}",
                    ("endpoints", index, "addresses", position),
                )
                for index, endpoint in enumerate(self.endpoints)
                for position, address in enumerate(endpoint.addresses)
                if _type_of(address) != self.address_type
            ]
        )
        return self


def _type_of(address: str) -> str:
    """IPv4, IPv6 or FQDN; empty for what is none of them."""
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        pass
    try:
        normalise_host(address)
    except ValueError:
        return ""
    return "FQDN"
