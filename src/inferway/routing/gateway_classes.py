"""Which Gateways are ours to serve.

Problem: manifests may hold Gateways for other controllers, and small directories often leave the
GatewayClass out. Model: a GatewayClass is ours when it names our controller, and a Gateway when its
class is. A class that is not in the manifests counts as ours when it is called `inferway` or when
there are no GatewayClasses at all, with a warning: Kubernetes would have no controller for it. What
is not ours gets no status, as the Gateway API demands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.routing.settings import GATEWAY_CLASS
from inferway.routing.status import ObjectStatus, Refusal, RoutingWarning, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inferway.resources import Gateway, GatewayClass
    from inferway.routing.settings import RoutingSettings


@dataclass(frozen=True, slots=True)
class OurGateway:
    """A Gateway that names us; `refusal` when its class cannot be honoured."""

    gateway: Gateway
    refusal: Refusal | None


def class_refusal(gateway_class: GatewayClass) -> Refusal | None:
    """Why a class of ours is not accepted."""
    if gateway_class.spec.parameters_ref is None:
        return None
    return Refusal(
        "InvalidParameters",
        f"GatewayClass {gateway_class.name}: spec.parametersRef is not supported; remove it",
    )


def class_statuses(
    classes: Iterable[GatewayClass], settings: RoutingSettings
) -> tuple[ObjectStatus, ...]:
    """The status of every class of ours."""
    statuses = []
    for one in classes:
        if one.spec.controller_name != settings.controller_name:
            continue
        generation = one.metadata.generation
        refusal = class_refusal(one)
        condition = verdict("Accepted", refusal, generation=generation)
        statuses.append(ObjectStatus(key=one.key, conditions=(condition,)))
    return tuple(statuses)


def our_gateways(
    gateways: Sequence[Gateway], classes: Sequence[GatewayClass], settings: RoutingSettings
) -> tuple[tuple[OurGateway, ...], tuple[RoutingWarning, ...]]:
    """The Gateways to serve, ordered by namespace/name."""
    by_name = {one.name: one for one in classes}
    ours, warnings = [], []
    for gateway in sorted(gateways, key=lambda one: one.qualified_name):
        class_name = gateway.spec.gateway_class_name
        gateway_class = by_name.get(class_name)
        if gateway_class is not None:
            if gateway_class.spec.controller_name == settings.controller_name:
                ours.append(OurGateway(gateway, class_refusal(gateway_class)))
            continue
        taken = class_name == GATEWAY_CLASS or not classes
        if taken:
            ours.append(OurGateway(gateway, None))
        consequence = "taken as ours" if taken else "this Gateway is ignored"
        warnings.append(
            RoutingWarning(
                f"there is no GatewayClass {class_name}: {consequence}",
                gateway.key,
                "spec.gatewayClassName",
            )
        )
    return tuple(ours), tuple(warnings)
