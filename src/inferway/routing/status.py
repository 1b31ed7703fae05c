"""What translation says about each object, in the shape of the objects' `status`.

Problem: a person who applied a manifest must see, on that object, what became of it and why.
Model: one frozen `ObjectStatus` per object, with conditions at up to three levels: the object, its
listeners (Gateway), its parents (HTTPRoute, InferencePool). `Programmed` cannot be known here:
translation leaves it Unknown/Pending and `with_programming` fills in what the data plane
acknowledged. Transition times are not known here either: `with_transition_times` carries them
over from the statuses of the previous round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inferway.resources.conditions import Condition, ConditionStatus, merge_conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from inferway.resources.gateway import RouteGroupKind
    from inferway.resources.meta import ResourceKey
    from inferway.resources.references import ParentReference

Conditions = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not served: the reason of a False condition, and the words for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ParentStatus:
    """What one Gateway says about a route or pool."""

    parent: ParentReference
    controller_name: str
    conditions: Conditions

    def manifest(self) -> dict[str, object]:
        return {
            "parentRef": self.parent.model_dump(mode="json", by_alias=True, exclude_none=True),
            "controllerName": self.controller_name,
            "conditions": [condition.manifest() for condition in self.conditions],
        }


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    name: str
    supported_kinds: tuple[RouteGroupKind, ...]
    attached_routes: int
    conditions: Conditions
    certificates: tuple[str, ...] = ()  # namespace/name of the Secrets that it shows

    def manifest(self) -> dict[str, object]:
        return {
            "name": self.name,
            "supportedKinds": [
                kind.model_dump(mode="json", by_alias=True) for kind in self.supported_kinds
            ],
            "attachedRoutes": self.attached_routes,
            "conditions": [condition.manifest() for condition in self.conditions],
        }


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """The status of one object; a level that its kind does not have is empty."""

    key: ResourceKey
    conditions: Conditions = ()
    addresses: tuple[str, ...] = ()  # Gateway: where it listens
    listeners: tuple[ListenerStatus, ...] = ()  # Gateway
    parents: tuple[ParentStatus, ...] = ()  # HTTPRoute, InferencePool

    def manifest(self) -> dict[str, object]:
        """As it stands under `status`; levels without content are left out."""
        levels: dict[str, object] = {
            "addresses": [{"type": "IPAddress", "value": value} for value in self.addresses],
            "conditions": [condition.manifest() for condition in self.conditions],
            "listeners": [listener.manifest() for listener in self.listeners],
            "parents": [parent.manifest() for parent in self.parents],
        }
        return {name: content for name, content in levels.items() if content}


@dataclass(frozen=True, slots=True)
class RoutingWarning:
    """Something that is served although it is not quite as the APIs want it. `key` is the object
    concerned (None: the manifests as a whole), `field` a path inside it.
    """

    message: str
    key: ResourceKey | None = None
    field: str = ""


@dataclass(frozen=True, slots=True)
class ProgrammingState:
    """What the data plane said of the newest model; neither acknowledged nor an error: pending."""

    acked: bool
    error: str = ""


def combined(refusals: Iterable[Refusal | None]) -> Refusal | None:
    """One refusal for all that there are: the first reason, every message."""
    found = [one for one in refusals if one is not None]
    if not found:
        return None
    return Refusal(found[0].reason, "; ".join(one.message for one in found))


def met(kind: str, reason: str, *, generation: int, message: str = "") -> Condition:
    """A condition that holds."""
    return Condition(kind, ConditionStatus.TRUE, reason, message, generation)


def unmet(kind: str, refusal: Refusal, *, generation: int) -> Condition:
    """A condition that does not hold, with the reason."""
    return Condition(kind, ConditionStatus.FALSE, refusal.reason, refusal.message, generation)


def verdict(kind: str, refusal: Refusal | None, *, generation: int, message: str = "") -> Condition:
    """Unmet with the refusal; without one met, for the reason that has the condition's own name."""
    if refusal is not None:
        return unmet(kind, refusal, generation=generation)
    return met(kind, kind, generation=generation, message=message)


def pending_programming(generation: int) -> Condition:
    message = "waiting for Envoy to acknowledge the configuration"
    return Condition("Programmed", ConditionStatus.UNKNOWN, "Pending", message, generation)


def with_programming(
    statuses: Iterable[ObjectStatus], state: ProgrammingState
) -> tuple[ObjectStatus, ...]:
    """The statuses with every pending `Programmed` decided. What was already refused stays."""

    def decide(condition: Condition) -> Condition:
        if condition.type != "Programmed" or condition.status is not ConditionStatus.UNKNOWN:
            return condition
        if state.error:
            message = f"Envoy refused the configuration: {state.error}"
            return replace(
                condition, status=ConditionStatus.FALSE, reason="Invalid", message=message
            )
        if state.acked:
            return replace(condition, status=ConditionStatus.TRUE, reason="Programmed", message="")
        return condition

    def decide_all(conditions: Conditions, _level: tuple[str, str]) -> Conditions:
        return tuple(decide(condition) for condition in conditions)

    return tuple(_mapped(status, decide_all) for status in statuses)


def with_transition_times(
    statuses: Iterable[ObjectStatus],
    *,
    previous: Mapping[ResourceKey, ObjectStatus],
    now: datetime,
) -> tuple[ObjectStatus, ...]:
    """The statuses with `now` as transition time of every condition whose status is new."""

    def dated(status: ObjectStatus) -> ObjectStatus:
        before = _levels(previous[status.key]) if status.key in previous else {}

        def date(conditions: Conditions, level: tuple[str, str]) -> Conditions:
            fresh = (replace(condition, last_transition_time=now) for condition in conditions)
            return merge_conditions(before.get(level, ()), fresh)

        return _mapped(status, date)

    return tuple(dated(status) for status in statuses)


def _mapped(
    status: ObjectStatus, change: Callable[[Conditions, tuple[str, str]], Conditions]
) -> ObjectStatus:
    """`change` applied to the conditions of every level, each with the name of its level."""
    return replace(
        status,
        conditions=change(status.conditions, ("", "")),
        listeners=tuple(
            replace(one, conditions=change(one.conditions, _listener_level(one)))
            for one in status.listeners
        ),
        parents=tuple(
            replace(one, conditions=change(one.conditions, _parent_level(one)))
            for one in status.parents
        ),
    )


def _levels(status: ObjectStatus) -> dict[tuple[str, str], Conditions]:
    levels = {("", ""): status.conditions}
    levels.update((_listener_level(one), one.conditions) for one in status.listeners)
    levels.update((_parent_level(one), one.conditions) for one in status.parents)
    return levels


def _listener_level(listener: ListenerStatus) -> tuple[str, str]:
    return ("listener", listener.name)


def _parent_level(parent: ParentStatus) -> tuple[str, str]:
    return ("parent", parent.parent.model_dump_json())
