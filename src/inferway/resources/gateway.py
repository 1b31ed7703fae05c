"""Gateway: listeners and who may attach to them. The whole shape of the v1 standard channel
decodes.

What this gateway does not serve (protocols other than HTTP and HTTPS, addresses of other machines)
is not a decoding error: routing reports it in the status of the Gateway, as Gateway API asks.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .meta import Model, Object
from .references import (
    GATEWAY_GROUP,
    LabelSelector,
    LocalObjectReference,
    ObjectReference,
    SecretObjectReference,
)
from .scalars import (
    HOSTNAME_PATTERN,
    PATTERN_MEANING,
    AddressType,
    AnnotationValue,
    Group,
    Hostname,
    Kind,
    LabelKey,
    LabelValue,
    ObjectName,
    PortNumber,
    Protocol,
    SectionName,
)
from .violations import Violation, reject

LISTENERS_MAX = 64
_HOSTNAME = re.compile(HOSTNAME_PATTERN)


class RouteNamespaces(Model):
    from_: Annotated[Literal["All", "Selector", "Same"], Field(alias="from")] = "Same"
    selector: LabelSelector | None = None


class RouteGroupKind(Model):
    group: Group = GATEWAY_GROUP
    kind: Kind


class AllowedRoutes(Model):
    """`kinds` empty: every route kind that fits the protocol."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[tuple[RouteGroupKind, ...], Field(max_length=8)] = ()


class ListenerTls(Model):
    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], Field(max_length=64)] = ()
    options: Mapping[LabelKey, AnnotationValue] = Field(default_factory=dict, max_length=16)

    @model_validator(mode="after")
    def _terminate_needs_certificate(self) -> Self:
        if self.mode == "Terminate" and not self.certificate_refs and not self.options:
            message = "mode Terminate needs certificateRefs or options"
            reject([Violation(message, ("certificateRefs",))])
        return self


class Listener(Model):
    """`hostname` None: every host."""

    name: SectionName
    hostname: Hostname | None = None
    port: PortNumber
    protocol: Protocol
    tls: ListenerTls | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()

    @property
    def protocol_upper(self) -> str:
        """Core protocols are case-insensitive; compare this."""
        return self.protocol.upper()

    @model_validator(mode="after")
    def _fields_fit_protocol(self) -> Self:
        protocol = self.protocol_upper
        found = []
        if protocol in ("HTTP", "TCP", "UDP") and self.tls is not None:
            hint = "remove tls, or use protocol HTTPS"
            found.append(Violation(f"tls is not allowed with protocol {protocol}", ("tls",), hint))
        if protocol == "HTTPS" and self.tls is not None and self.tls.mode != "Terminate":
            message = "protocol HTTPS needs tls mode Terminate"
            found.append(Violation(message, ("tls", "mode")))
        if protocol == "TLS" and self.tls is None:
            found.append(Violation("protocol TLS needs tls with a mode", ("tls",)))
        if protocol in ("TCP", "UDP") and self.hostname is not None:
            message = f"hostname is not allowed with protocol {protocol}"
            found.append(Violation(message, ("hostname",)))
        reject(found)
        return self


class GatewayAddress(Model):
    type: AddressType = "IPAddress"
    value: Annotated[str, Field(max_length=253)] = ""

    @model_validator(mode="after")
    def _hostname_is_a_name(self) -> Self:
        if self.type == "Hostname" and self.value and not _HOSTNAME.fullmatch(self.value):
            message = f"value must be {PATTERN_MEANING[HOSTNAME_PATTERN]}: {self.value}"
            reject([Violation(message, ("value",))])
        return self


class GatewayInfrastructure(Model):
    labels: Mapping[LabelKey, LabelValue] = Field(default_factory=dict, max_length=8)
    annotations: Mapping[LabelKey, AnnotationValue] = Field(default_factory=dict, max_length=16)
    parameters_ref: LocalObjectReference | None = None


class ListenerNamespaces(Model):
    from_: Annotated[Literal["All", "Selector", "Same", "None"], Field(alias="from")] = "None"
    selector: LabelSelector | None = None


class AllowedListeners(Model):
    namespaces: ListenerNamespaces = ListenerNamespaces()


class FrontendValidation(Model):
    ca_certificate_refs: Annotated[tuple[ObjectReference, ...], Field(min_length=1, max_length=8)]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class FrontendTlsConfig(Model):
    validation: FrontendValidation | None = None


class FrontendTlsPort(Model):
    port: PortNumber
    tls: FrontendTlsConfig


class FrontendTls(Model):
    default: FrontendTlsConfig
    per_port: Annotated[tuple[FrontendTlsPort, ...], Field(max_length=64)] = ()

    @model_validator(mode="after")
    def _ports_are_unique(self) -> Self:
        count = Counter(entry.port for entry in self.per_port)
        reject(
            [
                Violation(f"port must be unique: {entry.port}", ("perPort", index, "port"))
                for index, entry in enumerate(self.per_port)
                if count[entry.port] > 1
            ]
        )
        return self


class BackendTls(Model):
    client_certificate_ref: SecretObjectReference | None = None


class GatewayTls(Model):
    backend: BackendTls | None = None
    frontend: FrontendTls | None = None


class GatewaySpec(Model):
    gateway_class_name: ObjectName
    listeners: Annotated[tuple[Listener, ...], Field(min_length=1, max_length=LISTENERS_MAX)]
    addresses: Annotated[tuple[GatewayAddress, ...], Field(max_length=16)] = ()
    infrastructure: GatewayInfrastructure | None = None
    allowed_listeners: AllowedListeners | None = None
    tls: GatewayTls | None = None

    @property
    def validations(self) -> tuple[FrontendValidation, ...]:
        """Every way in which clients of some HTTPS port are validated."""
        frontend = self.tls.frontend if self.tls else None
        if frontend is None:
            return ()
        configs = (frontend.default, *(entry.tls for entry in frontend.per_port))
        return tuple(one.validation for one in configs if one.validation is not None)

    def validation_at(self, port: int) -> FrontendValidation | None:
        """How certificates of clients of an HTTPS port are validated; None: not at all."""
        frontend = self.tls.frontend if self.tls else None
        if frontend is None:
            return None
        by_port = {entry.port: entry.tls for entry in frontend.per_port}
        return by_port.get(port, frontend.default).validation

    @model_validator(mode="after")
    def _entries_are_unique(self) -> Self:
        names: dict[str, int] = {}
        places: dict[tuple[int, str, str | None], int] = {}
        found = []
        for index, listener in enumerate(self.listeners):
            place = (listener.port, listener.protocol, listener.hostname)
            if names.setdefault(listener.name, index) != index:
                message = f"listener name must be unique within the Gateway: {listener.name}"
                found.append(Violation(message, ("listeners", index, "name")))
            if places.setdefault(place, index) != index:
                other = self.listeners[places[place]].name
                message = (
                    "port, protocol and hostname must be unique for each listener: "
                    f"same as listener {other}"
                )
                found.append(Violation(message, ("listeners", index, "port")))
        addresses: set[tuple[str, str]] = set()
        for index, address in enumerate(self.addresses):
            identity = (address.type, address.value)
            if address.type in ("IPAddress", "Hostname") and address.value:
                if identity in addresses:
                    message = f"{address.type} values must be unique: {address.value}"
                    found.append(Violation(message, ("addresses", index, "value")))
                addresses.add(identity)
        reject(found)
        return self


class Gateway(Object):
    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"] = (
        "gateway.networking.k8s.io/v1"
    )
    kind: Literal["Gateway"] = "Gateway"
    spec: GatewaySpec
