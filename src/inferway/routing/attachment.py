"""Which listeners an HTTPRoute attaches to.

Problem: a route names Gateways; a listener admits routes by namespace, kind and host name. Model:
for each parentRef, narrow the Gateway's listeners step by step; the first step that leaves none
gives the reason. The order of the steps is the order in which a person would look: does the parent
exist, does it let me in, do our hosts meet, is it in service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.resources.references import GATEWAY_GROUP
from inferway.routing.gateway_listeners import HTTP_ROUTE
from inferway.routing.hostnames import intersections
from inferway.routing.status import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferway.resources.gateway import RouteNamespaces
    from inferway.resources.references import LabelSelector, ParentReference
    from inferway.routing.gateway_listeners import GatewayListener, ServedGateway
    from inferway.routing.namespaces import NamespaceLabels


@dataclass(frozen=True, slots=True)
class Attachment:
    """One parentRef: the listeners it leads to, and why none of them serves the route, if so."""

    parent: ParentReference
    gateway: str  # namespace/name
    exists: bool
    listeners: tuple[GatewayListener, ...] = ()
    refusal: Refusal | None = None


def parent_gateway(parent: ParentReference, namespace: str) -> str | None:
    """namespace/name of the Gateway that a parentRef in `namespace` names, if it names one."""
    if (parent.group, parent.kind) != (GATEWAY_GROUP, "Gateway"):
        return None
    return f"{parent.namespace or namespace}/{parent.name}"


def attach(
    parent: ParentReference,
    *,
    namespace: str,
    hostnames: Sequence[str],
    gateways: Mapping[str, ServedGateway],
    namespaces: NamespaceLabels,
) -> Attachment:
    """Where a parentRef leads for a route of `namespace` with these canonical host patterns.

    `gateways` are ours by namespace/name; the parentRef must name a Gateway that is not another
    controller's.
    """
    name = parent_gateway(parent, namespace)
    gateway = gateways.get(name or "")
    if name is None or gateway is None:
        return _refused(
            parent, name or parent.name, "NoMatchingParent", "does not exist", exists=False
        )

    named = [one for one in gateway.listeners if _is_named(parent, one)]
    if not named:
        wanted = f"sectionName {parent.section_name}" if parent.section_name else ""
        wanted += f" port {parent.port}" if parent.port else ""
        return _refused(parent, name, "NoMatchingParent", f"has no listener with {wanted.strip()}")

    admitting = [one for one in named if _admits(one, namespace, namespaces)]
    if not admitting:
        return _refused(
            parent,
            name,
            "NotAllowedByListeners",
            f"admits no HTTPRoute of namespace {namespace} (listeners: {_names(named)})",
        )

    meeting = [one for one in admitting if intersections(one.hostname, hostnames)]
    if not meeting:
        return _refused(
            parent,
            name,
            "NoMatchingListenerHostname",
            f"has no listener for the hostnames of this route: {', '.join(hostnames)}",
        )

    refusal = None
    if not any(one.served for one in meeting):
        problem = meeting[0].unserved
        words = problem.message if problem else ""
        refusal = Refusal(
            "NoMatchingParent",
            f"Gateway {name}: no listener for this route is in service "
            f"({meeting[0].spec.name}: {words})",
        )
    return Attachment(parent, name, exists=True, listeners=tuple(meeting), refusal=refusal)


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a Kubernetes label selector matches; an empty one matches everything."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for requirement in selector.match_expressions:
        value = labels.get(requirement.key)
        holds = {
            "In": value in requirement.values,
            "NotIn": value not in requirement.values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[requirement.operator]
        if not holds:
            return False
    return True


def _refused(
    parent: ParentReference, gateway: str, reason: str, words: str, *, exists: bool = True
) -> Attachment:
    refusal = Refusal(reason, f"Gateway {gateway} {words}")
    return Attachment(parent, gateway, exists=exists, refusal=refusal)


def _names(listeners: Sequence[GatewayListener]) -> str:
    return ", ".join(one.spec.name for one in listeners)


def _is_named(parent: ParentReference, listener: GatewayListener) -> bool:
    return parent.section_name in (None, listener.spec.name) and parent.port in (
        None,
        listener.spec.port,
    )


def _admits(listener: GatewayListener, namespace: str, namespaces: NamespaceLabels) -> bool:
    return HTTP_ROUTE in listener.kinds and _admits_namespace(
        listener.spec.allowed_routes.namespaces, namespaces, own=listener.namespace, other=namespace
    )


def _admits_namespace(
    rule: RouteNamespaces, namespaces: NamespaceLabels, *, own: str, other: str
) -> bool:
    match rule.from_:
        case "All":
            return True
        case "Same":
            return own == other
        case "Selector":
            return rule.selector is not None and selects(rule.selector, namespaces.of(other))
