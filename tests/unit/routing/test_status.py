"""`Programmed` and transition times are added to what translation knows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from inferway.resources import ResourceKey, ResourceSet
from inferway.routing.settings import RoutingSettings
from inferway.routing.status import (
    ObjectStatus,
    ProgrammingState,
    with_programming,
    with_transition_times,
)
from inferway.routing.translate import translate

if TYPE_CHECKING:
    from inferway.resources.conditions import Condition

Load = Callable[[str], ResourceSet]

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MANIFESTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: main, generation: 4}
spec:
  gatewayClassName: inferway
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: tcp, port: 81, protocol: TCP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec: {parentRefs: [{name: main, sectionName: http}, {name: main, sectionName: tcp}]}
"""


def statuses(load: Load, text: str = MANIFESTS) -> tuple[ObjectStatus, ...]:
    return translate(load(text), settings=RoutingSettings()).statuses


def by_type(conditions: tuple[Condition, ...]) -> dict[str, Condition]:
    return {one.type: one for one in conditions}


def programmed(of: tuple[ObjectStatus, ...]) -> dict[str, tuple[str, str, str]]:
    """Status, reason and message of every Programmed condition."""
    gateway = of[0]
    levels = {"gateway": gateway.conditions}
    levels |= {one.name: one.conditions for one in gateway.listeners}
    found = {name: by_type(conditions)["Programmed"] for name, conditions in levels.items()}
    return {name: (one.status.value, one.reason, one.message) for name, one in found.items()}


REFUSED = ("False", "Invalid", "protocol TCP is not supported; supported: HTTP, HTTPS")


def test_programmed_is_pending_until_envoy_answers(load: Load) -> None:
    waiting = ("Unknown", "Pending", "waiting for Envoy to acknowledge the configuration")
    expected = {"gateway": waiting, "http": waiting, "tcp": REFUSED}
    assert programmed(statuses(load)) == expected
    assert programmed(with_programming(statuses(load), ProgrammingState(acked=False))) == expected


def test_acknowledged(load: Load) -> None:
    done = ("True", "Programmed", "")
    found = programmed(with_programming(statuses(load), ProgrammingState(acked=True)))
    assert found == {"gateway": done, "http": done, "tcp": REFUSED}


def test_refused_by_envoy(load: Load) -> None:
    state = ProgrammingState(acked=False, error="route: bad regex")
    failed = ("False", "Invalid", "Envoy refused the configuration: route: bad regex")
    found = programmed(with_programming(statuses(load), state))
    assert found == {"gateway": failed, "http": failed, "tcp": REFUSED}


def test_acknowledgement_can_be_taken_back(load: Load) -> None:
    """Always computed from the translation's own statuses, not from the last answer."""
    translated = statuses(load)
    with_programming(translated, ProgrammingState(acked=True))
    again = with_programming(translated, ProgrammingState(acked=False, error="no"))
    assert programmed(again)["gateway"][0] == "False"


def test_only_what_changed_gets_a_new_transition_time(load: Load) -> None:
    previous: dict[ResourceKey, ObjectStatus] = {}
    first = with_transition_times(statuses(load), previous=previous, now=NOON)
    assert {one.last_transition_time for one in first[0].conditions} == {NOON}
    later = NOON + timedelta(minutes=1)
    second = with_transition_times(
        with_programming(statuses(load), ProgrammingState(acked=True)),
        previous={one.key: one for one in first},
        now=later,
    )
    gateway = by_type(second[0].conditions)
    assert gateway["Accepted"].last_transition_time == NOON
    assert gateway["Programmed"].last_transition_time == later
    http, tcp = (by_type(one.conditions) for one in second[0].listeners)
    assert (http["Programmed"].last_transition_time, tcp["Programmed"].last_transition_time) == (
        later,
        NOON,
    )
    route = second[1]
    assert {one.last_transition_time for parent in route.parents for one in parent.conditions} == {
        NOON
    }


def test_parents_are_told_apart_by_section(load: Load) -> None:
    """The two parents of the route name one Gateway, and must not inherit each other's times."""
    first = with_transition_times(statuses(load), previous={}, now=NOON)
    swapped = MANIFESTS.replace(
        "name: tcp, port: 81, protocol: TCP", "name: tcp, port: 81, protocol: HTTP"
    )
    later = NOON + timedelta(minutes=1)
    second = with_transition_times(
        statuses(load, swapped), previous={one.key: one for one in first}, now=later
    )
    times = [parent.conditions[0].last_transition_time for parent in second[1].parents]
    assert times == [NOON, later]


def test_manifest_form(load: Load) -> None:
    dated = with_transition_times(statuses(load), previous={}, now=NOON)
    gateway = dated[0].manifest()
    assert gateway["addresses"] == [{"type": "IPAddress", "value": "127.0.0.1"}]
    listeners = gateway["listeners"]
    assert isinstance(listeners, list)
    assert listeners[0]["supportedKinds"] == [
        {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}
    ]
    assert listeners[0]["attachedRoutes"] == 1
    assert listeners[0]["conditions"][0] == {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "observedGeneration": 4,
        "lastTransitionTime": "2026-05-01T12:00:00Z",
    }
    route = dated[1].manifest()
    assert set(route) == {"parents"}
    assert route["parents"][0]["parentRef"] == {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": "main",
        "sectionName": "http",
    }
    assert route["parents"][0]["controllerName"] == "inferway.dev/gateway-controller"
