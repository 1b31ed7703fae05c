"""Listeners of Gateways become listeners of the model.

Problem: on one address and port several listeners may serve different hosts. In clear text nothing
but the Host header tells them apart, so they are one listener with all their virtual hosts. With
TLS a client says at the start of a connection which host it wants (SNI) and is shown that
listener's certificates; then it may still ask for another host on the same connection. Model: one
model listener per TLS listener, with its own virtual hosts only. A host that another listener on
the port serves is misdirected there (421), so that a client tries it on a connection of its own; a
host that none serves is not found (404). Invariant: whichever connection a request comes over, a
host is served by the most specific listener for it, or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from inferway.routing.hostnames import ANY
from inferway.routing.model import Certificate, Listener, ListenerTls
from inferway.routing.virtual_hosts import AttachedRoute, HostListener, virtual_hosts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from inferway.routing.gateway_listeners import GatewayListener, ServedGateway

Served = Mapping[str, Mapping[str, AttachedRoute]]
"""Listener name to the routes that it serves, by name."""


def model_listeners(gateways: Iterable[ServedGateway], served: Served) -> tuple[Listener, ...]:
    """In order of address and port; with TLS then by name."""
    by_socket: defaultdict[tuple[str, int], list[GatewayListener]] = defaultdict(list)
    for gateway in gateways:
        for listener in gateway.listeners:
            for address in listener.addresses if listener.served else ():
                by_socket[address, listener.spec.port].append(listener)
    return tuple(
        listener
        for (address, port), sharing in sorted(by_socket.items())
        for listener in _listeners(address, port, sharing, served)
    )


def used_certificates(gateways: Iterable[ServedGateway]) -> dict[str, Certificate]:
    """The certificates of all listeners that are served, by name."""
    found = {
        certificate.name: certificate
        for gateway in gateways
        for listener in gateway.listeners
        for certificate in (listener.certificates if listener.served else ())
    }
    return dict(sorted(found.items()))


def _listeners(
    address: str, port: int, sharing: Sequence[GatewayListener], served: Served
) -> Iterator[Listener]:
    # Protocols that would meet on one port are a conflict, so all of them are of one kind.
    if not sharing[0].is_tls:
        hosts = virtual_hosts([_host_listener(one, served) for one in sharing])
        yield Listener(_name(sharing[0], address), address, port, hosts)
        return
    for one in sorted(sharing, key=lambda one: one.name):
        elsewhere = sorted(other.hostname for other in sharing if other is not one)
        yield Listener(
            name=_name(one, address),
            address=address,
            port=port,
            hosts=virtual_hosts([_host_listener(one, served)], elsewhere=elsewhere),
            tls=ListenerTls(
                server_names=() if one.hostname == ANY else (one.hostname,),
                certificates=tuple(certificate.name for certificate in one.certificates),
                clients=one.clients,
            ),
            elsewhere=tuple(elsewhere),
        )


def _host_listener(listener: GatewayListener, served: Served) -> HostListener:
    return HostListener(listener.hostname, tuple(served.get(listener.name, {}).values()))


def _name(listener: GatewayListener, address: str) -> str:
    several = len(listener.addresses) > 1
    return f"{listener.name}@{address}" if several else listener.name
