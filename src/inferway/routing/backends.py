"""Backend references of routes, resolved.

Problem: a backendRef may name something that does not exist, is of a kind that is not served, or is
in another namespace without leave; its share of the traffic must then get 500 while the others
serve. Model: `resolve` turns each reference into a `Target`, which for a reference that cannot be
followed is an error target with the same weight, and tells why. Order of the checks: kind, then
leave to cross namespaces, then existence, so that nobody learns what another namespace holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.resources.references import INFERENCE_GROUP
from inferway.routing.grants import Grants, Referent, route_in
from inferway.routing.model import ServerGroup, Target, TargetKind
from inferway.routing.pools import server_endpoints
from inferway.routing.status import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.resources import ModelServer
    from inferway.resources.http_route import BackendRef
    from inferway.routing.pools import BuiltPool
    from inferway.routing.services import Services

_POOL = (INFERENCE_GROUP, "InferencePool")
_SERVER = ("inferway.dev", "ModelServer")
_SERVICE = ("", "Service")
_KINDS = (_POOL, _SERVICE, _SERVER)


@dataclass(frozen=True, slots=True)
class Resolved:
    target: Target
    refusal: Refusal | None = None
    group: ServerGroup | None = None  # what a SERVERS target stands for
    pool: str | None = None  # the InferencePool that was found, whether it can serve or not


@dataclass(frozen=True, slots=True)
class Backends:
    """Everything that a route may name, by namespace/name."""

    pools: Mapping[str, BuiltPool]
    servers: Mapping[str, ModelServer]
    services: Services
    grants: Grants

    def resolve(self, reference: BackendRef, *, namespace: str) -> Resolved:
        """The target of a reference in a route of `namespace`."""
        within = reference.namespace or namespace
        name = f"{within}/{reference.name}"
        kind = (reference.group, reference.kind)
        if kind not in _KINDS:
            shown = f"{reference.group}/{reference.kind}".removeprefix("/")
            known = ", ".join(one for _group, one in _KINDS)
            words = f"kind {shown} is not supported; supported: {known}"
            return _error(reference, name, "InvalidKind", words)
        if not self.grants.permit(route_in(namespace), Referent(*kind, within, reference.name)):
            words = (
                f"{reference.kind} {name} is in another namespace, and no ReferenceGrant allows it"
            )
            return _error(reference, name, "RefNotPermitted", words)
        if kind == _POOL:
            return self._pool(reference, name)
        if kind == _SERVICE:
            return self._service(reference, name)
        return self._server(reference, name)

    def _pool(self, reference: BackendRef, name: str) -> Resolved:
        built = self.pools.get(name)
        if built is None:
            words = f"InferencePool {name} does not exist"
            return _error(reference, name, "BackendNotFound", words)
        if built.refusal is not None:
            # The pool's own status has the reason; the reference as such is fine.
            target = Target(TargetKind.ERROR, f"InferencePool {name}", reference.weight)
            return Resolved(target, pool=name)
        return Resolved(Target(TargetKind.POOL, name, reference.weight), pool=name)

    def _server(self, reference: BackendRef, name: str) -> Resolved:
        server = self.servers.get(name)
        if server is None:
            return _error(reference, name, "BackendNotFound", f"ModelServer {name} does not exist")
        without_port = any(address.port is None for address in server.spec.addresses)
        if without_port and reference.port is None:
            words = f"ModelServer {name} has an address without port: set port there or here"
            return _error(reference, name, "BackendNotFound", words)
        ports = [reference.port] if reference.port is not None else []
        group = ServerGroup(
            name=f"{name}:{reference.port}" if without_port else name,
            endpoints=tuple(dict.fromkeys(server_endpoints(server, ports))),
        )
        return Resolved(Target(TargetKind.SERVERS, group.name, reference.weight), group=group)

    def _service(self, reference: BackendRef, name: str) -> Resolved:
        port = reference.port or 0  # decoding demands one of a reference to a Service
        found = self.services.find(name, port)
        if isinstance(found, Refusal):
            return _error(reference, name, found.reason, found.message)
        group = ServerGroup(f"service/{name}:{port}", found.endpoints, h2c=found.h2c)
        return Resolved(Target(TargetKind.SERVERS, group.name, reference.weight), group=group)


def _error(reference: BackendRef, name: str, reason: str, message: str) -> Resolved:
    target = Target(TargetKind.ERROR, f"{reference.kind} {name}", reference.weight)
    return Resolved(target, Refusal(reason, message))
