"""Listeners of Gateways: where each is bound, and whether it can be served.

Problem: listeners of one or several Gateways may claim the same address, port and host, or a
protocol that is not served; each must be told apart before routes attach. Model: one
`GatewayListener` per listener, judged with all others in view. Invariant: of listeners that cannot
be told apart none is served, because the Gateway API forbids picking a winner; that also holds
between Gateways, since they share one Envoy. HTTP and HTTPS are served; an HTTPS listener with at
least one good certificate is, whatever its other references are, unless it must validate clients
and cannot (client_validation.py).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inferway.resources.gateway import RouteGroupKind
from inferway.routing.certificates import listener_certificates
from inferway.routing.hostnames import ANY, intersection, pattern
from inferway.routing.picker_config import is_ip
from inferway.routing.status import Refusal, combined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inferway.resources import Gateway
    from inferway.resources.gateway import Listener
    from inferway.routing.certificates import Certificates
    from inferway.routing.client_validation import ClientValidations
    from inferway.routing.gateway_classes import OurGateway
    from inferway.routing.model import Certificate, ClientValidation
    from inferway.routing.settings import RoutingSettings

HTTP_ROUTE = RouteGroupKind(kind="HTTPRoute")
_SERVED = ("HTTP", "HTTPS")
# Protocols that would have to share one port as one protocol on the wire. The others are not
# served at all, and a listener that is not served is in nobody's way.
_WIRE = {"HTTP": "HTTP", "HTTPS": "TLS", "TLS": "TLS"}


@dataclass(frozen=True, slots=True)
class GatewayListener:
    name: str  # namespace/gateway/listener
    gateway: str  # namespace/name
    namespace: str  # of the Gateway
    spec: Listener
    hostname: str  # canonical pattern
    addresses: tuple[str, ...]
    kinds: tuple[RouteGroupKind, ...]  # that may attach and that we know
    # Certificates or authorities that cannot be used, entries of allowedRoutes.kinds unknown to us.
    unresolved: Refusal | None
    certificates: tuple[Certificate, ...] = ()  # of an HTTPS listener
    clients: ClientValidation | None = None  # of an HTTPS listener that validates them
    refusal: Refusal | None = None  # not served, whatever the others are
    conflict: Refusal | None = None  # not served because of another listener
    overlaps: tuple[str, ...] = ()  # HTTPS listeners on its port whose hosts are in part its own

    @property
    def is_tls(self) -> bool:
        return self.spec.protocol_upper == "HTTPS"

    @property
    def unserved(self) -> Refusal | None:
        """Why it is not served, if so: it is refused, in conflict, or has no certificate."""
        without = self.unresolved if self.is_tls and not self.certificates else None
        return self.refusal or self.conflict or without

    @property
    def served(self) -> bool:
        return self.unserved is None


@dataclass(frozen=True, slots=True)
class ServedGateway:
    """One of our Gateways with judged listeners; `refusal` when none of them may be served.
    `unusable` are the addresses that it asks for and cannot have; it listens on the others.
    """

    gateway: Gateway
    addresses: tuple[str, ...]
    listeners: tuple[GatewayListener, ...]
    refusal: Refusal | None
    unusable: tuple[str, ...] = ()


def judge(
    gateways: Sequence[OurGateway],
    certificates: Certificates,
    validations: ClientValidations,
    settings: RoutingSettings,
) -> tuple[ServedGateway, ...]:
    """Every listener of every Gateway with its verdict; order is kept."""
    alone = [_judge_alone(one, certificates, validations, settings) for one in gateways]
    everyone = [listener for one in alone for listener in one.listeners]
    conflicts, overlaps = _conflicts(everyone), _overlaps(everyone)
    return tuple(
        replace(
            one,
            listeners=tuple(
                replace(
                    listener,
                    conflict=conflicts.get(listener.name),
                    overlaps=overlaps.get(listener.name, ()),
                )
                for listener in one.listeners
            ),
        )
        for one in alone
    )


def _judge_alone(
    ours: OurGateway,
    certificates: Certificates,
    validations: ClientValidations,
    settings: RoutingSettings,
) -> ServedGateway:
    gateway = ours.gateway
    refusal = ours.refusal or _gateway_refusal(gateway)
    asked = _addresses(gateway, settings) if refusal is None else ()
    unusable = tuple(one for one in asked if one in settings.unusable_addresses)
    addresses = tuple(one for one in asked if one not in unusable)
    listeners = []
    for spec in gateway.spec.listeners:
        shown = listener_certificates(spec, gateway.namespace, certificates)
        clients = validations.judge(gateway, spec)
        listener = GatewayListener(
            name=f"{gateway.qualified_name}/{spec.name}",
            gateway=gateway.qualified_name,
            namespace=gateway.namespace,
            spec=spec,
            hostname=pattern(spec.hostname),
            addresses=addresses,
            kinds=_kinds(spec),
            unresolved=combined([shown.refusal, clients.unresolved, _kinds_refusal(spec)]),
            certificates=shown.certificates,
            clients=clients.validation,
            refusal=(
                Refusal("Invalid", refusal.message)
                if refusal
                else _refusal(spec) or clients.refusal
            ),
        )
        listeners.append(listener)
    return ServedGateway(gateway, addresses, tuple(listeners), refusal, unusable)


def _gateway_refusal(gateway: Gateway) -> Refusal | None:
    for index, address in enumerate(gateway.spec.addresses):
        if address.type != "IPAddress" or (address.value and not is_ip(address.value)):
            return Refusal(
                "UnsupportedAddress",
                f"spec.addresses[{index}]: {address.type} {address.value} is not supported; "
                "supported: type IPAddress with an IP address of this machine",
            )
    infrastructure = gateway.spec.infrastructure
    if infrastructure is not None and infrastructure.parameters_ref is not None:
        return Refusal(
            "InvalidParameters", "spec.infrastructure.parametersRef is not supported; remove it"
        )
    return None


def requested_addresses(gateways: Iterable[Gateway]) -> frozenset[str]:
    """The IP addresses that Gateways name."""
    return frozenset(
        address.value
        for gateway in gateways
        for address in gateway.spec.addresses
        if address.type == "IPAddress" and is_ip(address.value)
    )


def _addresses(gateway: Gateway, settings: RoutingSettings) -> tuple[str, ...]:
    """IP addresses to bind, each once. An address without value asks for any: ours."""
    given = [address.value or settings.listen_address for address in gateway.spec.addresses]
    return tuple(dict.fromkeys(given or [settings.listen_address]))


def _kinds(spec: Listener) -> tuple[RouteGroupKind, ...]:
    if spec.protocol_upper not in _SERVED:
        return ()
    asked = spec.allowed_routes.kinds
    return (HTTP_ROUTE,) if not asked or HTTP_ROUTE in asked else ()


def _kinds_refusal(spec: Listener) -> Refusal | None:
    unknown = [one.kind for one in spec.allowed_routes.kinds if one != HTTP_ROUTE]
    if not unknown:
        return None
    names = ", ".join(unknown)
    return Refusal(
        "InvalidRouteKinds", f"allowedRoutes.kinds: {names} not supported; supported: HTTPRoute"
    )


def _refusal(spec: Listener) -> Refusal | None:
    if spec.protocol_upper not in _SERVED:
        known = ", ".join(_SERVED)
        return Refusal(
            "UnsupportedProtocol", f"protocol {spec.protocol} is not supported; supported: {known}"
        )
    return None


def _overlaps(listeners: Sequence[GatewayListener]) -> dict[str, tuple[str, ...]]:
    """HTTPS listener name to the others on its port whose host pattern covers its own, or is
    covered by it: a client may come to one of them over a connection to the other.
    """
    by_socket: defaultdict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for listener in listeners:
        for address in listener.addresses if listener.is_tls else ():
            by_socket[address, listener.spec.port][listener.name] = listener.hostname
    found: dict[str, tuple[str, ...]] = {}
    for hosts in by_socket.values():
        for name, host in hosts.items():
            others = [
                other
                for other, pattern_ in hosts.items()
                if other != name and pattern_ != host and intersection(host, pattern_)
            ]
            if others:
                found.setdefault(name, tuple(sorted(others)))
    return found


def _conflicts(listeners: Sequence[GatewayListener]) -> dict[str, Refusal]:
    """Listener name to what it conflicts with, of those that do."""
    by_socket: defaultdict[tuple[str, int], list[GatewayListener]] = defaultdict(list)
    for listener in listeners:
        for address in listener.addresses:
            if listener.spec.protocol_upper in _WIRE:
                by_socket[address, listener.spec.port].append(listener)
    found: dict[str, Refusal] = {}
    for sharing in by_socket.values():
        for listener in sharing:
            others = [one for one in sharing if one is not listener]
            conflict = _conflict(listener, others)
            if conflict is not None:
                found.setdefault(listener.name, conflict)
    return found


def _conflict(listener: GatewayListener, others: Sequence[GatewayListener]) -> Refusal | None:
    port, wire = listener.spec.port, _WIRE[listener.spec.protocol_upper]
    for other in others:
        if _WIRE[other.spec.protocol_upper] != wire:
            return Refusal(
                "ProtocolConflict",
                f"port {port} is also claimed by listener {other.name} with protocol "
                f"{other.spec.protocol}",
            )
    for other in others:
        if other.hostname == listener.hostname:
            host = "every host" if listener.hostname == ANY else f"host {listener.hostname}"
            return Refusal(
                "HostnameConflict", f"listener {other.name} also claims {host} on port {port}"
            )
    return None
