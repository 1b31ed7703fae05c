"""Services: the endpoints behind each port.

Problem: a route, or a pool that names its picker, refers to a Service and a port; the data plane
needs addresses. Model: the EndpointSlices that carry the Service's name, as Kubernetes makes them;
where there are none, the ModelServers that the Service's selector selects, since no controller
makes slices for a directory. Only ready endpoints count; when none is, those that are ending but
still serve, as kube-proxy has it. Invariant: a Service without endpoints is no mistake: its share
is answered 503.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.routing.model import Endpoint
from inferway.routing.pools import server_endpoints
from inferway.routing.status import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from inferway.resources import EndpointSlice, Service
    from inferway.resources.service import ServicePort
    from inferway.routing.pools import ServerIndex

_HTTP = (None, "http")
_HTTP2 = "kubernetes.io/h2c"


@dataclass(frozen=True, slots=True)
class ServiceEndpoints:
    """What stands behind one port of a Service."""

    endpoints: tuple[Endpoint, ...]
    h2c: bool


class Services:
    """Every Service by namespace/name. Built once per translation."""

    def __init__(
        self,
        services: Iterable[Service],
        slices: Iterable[EndpointSlice],
        servers: ServerIndex,
    ) -> None:
        self._services = {service.qualified_name: service for service in services}
        self._servers = servers
        self._slices: defaultdict[str, list[EndpointSlice]] = defaultdict(list)
        for one in sorted(slices, key=lambda one: one.qualified_name):
            if one.service_name is not None:
                self._slices[f"{one.namespace}/{one.service_name}"].append(one)

    def __contains__(self, name: str) -> bool:
        return name in self._services

    def find(
        self, name: str, port: int, *, any_protocol: bool = False
    ) -> ServiceEndpoints | Refusal:
        """What serves a port of the Service namespace/name, or why nothing can. `any_protocol`: the
        caller knows what is spoken there, whatever the port's appProtocol says.
        """
        service = self._services.get(name)
        if service is None:
            return Refusal("BackendNotFound", f"Service {name} does not exist")
        if service.spec.type == "ExternalName":
            words = f"Service {name} is of type ExternalName, which is not supported"
            return Refusal("UnsupportedValue", words)
        entries = [one for one in service.spec.ports if one.port == port]
        if not entries:
            known = ", ".join(str(one.port) for one in service.spec.ports)
            words = f"Service {name} has no port {port}; it has: {known}"
            return Refusal("BackendNotFound", words)
        entry = next((one for one in entries if one.protocol == "TCP"), None)
        if entry is None:
            words = f"port {port} of Service {name} is {entries[0].protocol}; supported: TCP"
            return Refusal("UnsupportedProtocol", words)
        if not any_protocol and entry.app_protocol not in (*_HTTP, _HTTP2):
            words = (
                f"port {port} of Service {name} has appProtocol {entry.app_protocol}; "
                f"supported: http, {_HTTP2}"
            )
            return Refusal("UnsupportedProtocol", words)
        endpoints = tuple(dict.fromkeys(self._endpoints(service, entry)))
        return ServiceEndpoints(endpoints, h2c=entry.app_protocol == _HTTP2)

    def _endpoints(self, service: Service, port: ServicePort) -> Iterator[Endpoint]:
        slices = self._slices.get(service.qualified_name)
        if slices is not None:
            yield from _in_slices(slices, port)
        elif service.spec.selector:
            target = port.target_port or port.port
            ports = [target] if isinstance(target, int) else []
            servers = self._servers.select(
                namespace=service.namespace, labels=service.spec.selector
            )
            for server in servers:
                yield from server_endpoints(server, ports)


def _in_slices(slices: Iterable[EndpointSlice], port: ServicePort) -> Iterator[Endpoint]:
    places = [
        (number, endpoint)
        for one in slices
        for number in _numbers(one, port)
        for endpoint in one.endpoints
    ]
    taken = [place for place in places if place[1].is_ready]
    for number, endpoint in taken or [place for place in places if place[1].is_last_resort]:
        # Addresses of one endpoint are equivalent, and the first is the one to use.
        host = endpoint.addresses[0]
        yield Endpoint(host=host, port=number, server="", engine="", metrics_path="")


def _numbers(one: EndpointSlice, port: ServicePort) -> Iterator[int]:
    """The port numbers of a slice that stand for a port of the Service."""
    for entry in one.ports:
        if (entry.name, entry.protocol) == (port.name, port.protocol):
            number = entry.port or port.target_port
            if isinstance(number, int):
                yield number
