"""The status of a Gateway and its listeners, from the verdicts on them.

Problem: the Gateway API fixes which conditions and reasons say what; a client decides by them.
Model: a pure rendering of `ServedGateway`. A Gateway is accepted when at least one of its listeners
is served; the reason ListenersNotValid tells that not all are. An address that it cannot have makes
it not programmed, while it listens on the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.routing.status import (
    Conditions,
    ListenerStatus,
    ObjectStatus,
    Refusal,
    met,
    pending_programming,
    unmet,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.routing.gateway_listeners import GatewayListener, ServedGateway


def gateway_status(served: ServedGateway, attached: Mapping[str, int]) -> ObjectStatus:
    """`attached` is the number of routes per listener name."""
    generation = served.gateway.metadata.generation
    return ObjectStatus(
        key=served.gateway.key,
        conditions=(*_gateway_conditions(served, generation), *_insecure(served, generation)),
        addresses=served.addresses,
        listeners=tuple(
            ListenerStatus(
                name=listener.spec.name,
                supported_kinds=listener.kinds,
                attached_routes=attached.get(listener.name, 0),
                conditions=_listener_conditions(listener, generation, _unusable(served)),
                certificates=tuple(one.name for one in listener.certificates),
            )
            for listener in served.listeners
        ),
    )


def _unusable(served: ServedGateway) -> Refusal | None:
    """The addresses that the Gateway cannot have, if any."""
    if not served.unusable:
        return None
    names = ", ".join(served.unusable)
    return Refusal("AddressNotUsable", f"spec.addresses: this machine cannot listen on {names}")


def _gateway_conditions(served: ServedGateway, generation: int) -> Conditions:
    invalid = [one.spec.name for one in served.listeners if not one.served]
    words = f"listeners not served: {', '.join(invalid)}" if invalid else ""
    refusal = served.refusal
    if refusal is None and len(invalid) == len(served.listeners):
        refusal = Refusal("ListenersNotValid", words)
    if refusal is not None:
        return (
            unmet("Accepted", refusal, generation=generation),
            unmet("Programmed", Refusal("Invalid", refusal.message), generation=generation),
        )
    reason = "ListenersNotValid" if invalid else "Accepted"
    unusable = _unusable(served)
    return (
        met("Accepted", reason, generation=generation, message=words),
        unmet("Programmed", unusable, generation=generation)
        if unusable
        else pending_programming(generation),
    )


def _insecure(served: ServedGateway, generation: int) -> Conditions:
    """The API wants it told when clients are let in whatever certificate they show."""
    modes = {one.mode for one in served.gateway.spec.validations}
    if "AllowInsecureFallback" not in modes:
        return ()
    words = "spec.tls.frontend: AllowInsecureFallback serves clients without a valid certificate"
    kind, reason = "InsecureFrontendValidationMode", "ConfigurationChanged"
    return (met(kind, reason, generation=generation, message=words),)


def _listener_conditions(
    listener: GatewayListener, generation: int, unusable: Refusal | None
) -> Conditions:
    refusal = listener.refusal or listener.conflict
    accepted = verdict("Accepted", refusal, generation=generation)
    unserved = listener.unserved or (None if listener.addresses else unusable)
    programmed = (
        unmet("Programmed", Refusal("Invalid", unserved.message), generation=generation)
        if unserved
        else pending_programming(generation)
    )
    resolved = verdict("ResolvedRefs", listener.unresolved, generation=generation)
    # Conflicted is the one condition where True is bad.
    conflicted = (
        met(
            "Conflicted",
            listener.conflict.reason,
            generation=generation,
            message=listener.conflict.message,
        )
        if listener.conflict
        else unmet("Conflicted", Refusal("NoConflicts", ""), generation=generation)
    )
    conditions = (accepted, programmed, resolved, conflicted)
    if not listener.overlaps:
        return conditions
    words = (
        f"hosts overlap with {', '.join(listener.overlaps)}: a request for a host of another "
        "listener on this one's connection is answered 421"
    )
    overlapping = met(
        "OverlappingTLSConfig", "OverlappingHostnames", generation=generation, message=words
    )
    return (*conditions, overlapping)
