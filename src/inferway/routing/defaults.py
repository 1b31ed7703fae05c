"""What is made up when manifests leave the obvious out.

Problem: on a laptop one wants to write a pool, or a pool and a route, and have a gateway. Model:
only when there is no Gateway at all, one is added: `default/inferway`, class `inferway`, one HTTP
listener on the configured address and port, open to every namespace. Every HTTPRoute is attached to
it, whatever its parentRefs say. When there are no HTTPRoutes either and exactly one pool, that pool
gets a catch-all route; with several pools nobody can guess which is meant, so nothing is routed and
every pool says so. What is made up runs through the same translation as what is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inferway.resources import Gateway, HTTPRoute, ObjectMeta
from inferway.resources.gateway import AllowedRoutes, GatewaySpec, Listener, RouteNamespaces
from inferway.resources.http_route import BackendRef, HTTPRouteSpec, RouteRule
from inferway.resources.references import INFERENCE_GROUP, ParentReference
from inferway.routing.settings import GATEWAY_CLASS
from inferway.routing.status import Refusal, RoutingWarning

if TYPE_CHECKING:
    from inferway.resources import InferencePool, ResourceSet
    from inferway.routing.settings import RoutingSettings

DEFAULT_GATEWAY = "default/inferway"
_API_VERSION: Final = "gateway.networking.k8s.io/v1"
_PARENT = ParentReference(namespace="default", name="inferway")


@dataclass(frozen=True, slots=True)
class Completed:
    """What to translate: the routes, the Gateway that was made up if there is none, and why no pool
    can be reached, if so.
    """

    routes: tuple[HTTPRoute, ...]
    warnings: tuple[RoutingWarning, ...] = ()
    gateway: Gateway | None = None
    stranded: Refusal | None = None


def complete(resources: ResourceSet, settings: RoutingSettings) -> Completed:
    """The HTTPRoutes of the resources, with what this module makes up."""
    routes = resources.http_routes
    if resources.gateways:
        return Completed(routes)
    warnings = [
        RoutingWarning(
            f"no Gateway in the manifests: one is assumed, listening on "
            f"{settings.listen_address} port {settings.port}"
        )
    ]
    stranded = None
    if routes:
        routes = tuple(sorted(routes, key=lambda one: one.qualified_name))
        warnings += [_attached_warning(route) for route in routes]
        routes = tuple(_attached(route) for route in routes)
    elif len(resources.pools) == 1:
        pool = resources.pools[0]
        words = f"no HTTPRoute in the manifests: every request goes to pool {pool.qualified_name}"
        warnings.append(RoutingWarning(words, pool.key))
        routes = (_catch_all(pool),)
    elif resources.pools:
        words = (
            f"{len(resources.pools)} pools and no HTTPRoute: nothing says which requests go where; "
            "write an HTTPRoute"
        )
        stranded = Refusal("HTTPRouteNotAccepted", words)
        warnings.append(RoutingWarning(words))
    return Completed(routes, tuple(warnings), _gateway(settings), stranded)


def _gateway(settings: RoutingSettings) -> Gateway:
    listener = Listener(
        name="http",
        port=settings.port,
        protocol="HTTP",
        allowed_routes=AllowedRoutes(namespaces=RouteNamespaces(from_="All")),
    )
    namespace, _, name = DEFAULT_GATEWAY.partition("/")
    return Gateway(
        api_version=_API_VERSION,
        metadata=ObjectMeta(namespace=namespace, name=name),
        spec=GatewaySpec(gateway_class_name=GATEWAY_CLASS, listeners=(listener,)),
    )


def _attached(route: HTTPRoute) -> HTTPRoute:
    spec = route.spec.model_copy(update={"parent_refs": (_PARENT,)})
    return route.model_copy(update={"spec": spec})


def _attached_warning(route: HTTPRoute) -> RoutingWarning:
    named = ", ".join(parent.name for parent in route.spec.parent_refs)
    words = f"instead of {named}, which is not in the manifests" if named else "it names no parent"
    return RoutingWarning(
        f"attached to the assumed Gateway {DEFAULT_GATEWAY}: {words}", route.key, "spec.parentRefs"
    )


def _catch_all(pool: InferencePool) -> HTTPRoute:
    """A route with the name of the pool that sends everything there."""
    backend = BackendRef(group=INFERENCE_GROUP, kind="InferencePool", name=pool.name)
    return HTTPRoute(
        api_version=_API_VERSION,
        metadata=ObjectMeta(namespace=pool.namespace, name=pool.name),
        spec=HTTPRouteSpec(parent_refs=(_PARENT,), rules=(RouteRule(backend_refs=(backend,)),)),
    )
