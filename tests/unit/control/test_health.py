"""Envoy's view of the endpoints, watched at a bounded cost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferway.control.health import GRACE_S, INTERVAL_MAX_S, INTERVAL_MIN_S, HealthWatch, pause_s
from inferway.envoy.admin import AdminUnavailableError
from inferway.envoy.cluster_health import checked_endpoints


def host(ip: str, **health: object) -> dict[str, Any]:
    return {
        "address": {"socket_address": {"address": ip, "port_value": 8000}},
        "health_status": {"eds_health_status": "HEALTHY", **health},
    }


def clusters(**hosts: list[dict[str, Any]]) -> str:
    statuses = [{"name": name, "host_statuses": found} for name, found in hosts.items()]
    return json.dumps({"cluster_statuses": [*statuses, {"name": "pool/default/empty"}]})


BAD = {"failed_active_health_check": True}


def test_only_endpoints_of_pools_that_were_checked() -> None:
    text = clusters(
        **{
            "pool/default/chat": [
                host("10.0.0.1"),
                host("10.0.0.2", **BAD),
                host("fd00::0002", **BAD),
                host("10.0.0.3", **BAD, pending_active_hc=True),
            ],
            "pool/default/fine": [host("10.0.0.4")],
            "servers/default/plain": [host("10.0.0.5", **BAD)],
        }
    )
    assert checked_endpoints(text) == {
        "default/chat": {"10.0.0.1:8000": True, "10.0.0.2:8000": False, "[fd00::2]:8000": False},
        "default/empty": {},
        "default/fine": {"10.0.0.4:8000": True},
    }


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"cluster_statuses": [1, {"name": 2}]}'])
def test_what_is_not_understood_is_skipped(text: str) -> None:
    assert checked_endpoints(text) == {}


class World:
    """Envoy's answers, and a clock that each of them moves on."""

    def __init__(self) -> None:
        self.answer = clusters()
        self.down = False
        self.took_s = 0.001
        self.now_s = 0.0
        self.changes = 0
        self.watch = HealthWatch(self.ask, changed=self._changed, clock=lambda: self.now_s)

    async def ask(self) -> str:
        if self.down:
            raise AdminUnavailableError("gone")
        self.now_s += self.took_s
        return self.answer

    def _changed(self) -> None:
        self.changes += 1


async def test_a_change_is_told_once_and_survives_an_envoy_that_is_away() -> None:
    world = World()
    world.answer = clusters(**{"pool/a/b": [host("10.0.0.1")]})
    assert await world.watch.look() == pytest.approx(0.001)
    world.answer = clusters(**{"pool/a/b": [host("10.0.0.1", **BAD)]})
    await world.watch.look()
    await world.watch.look()
    assert world.changes == 1
    world.down = True
    assert await world.watch.look() == 0.0
    assert world.watch.unhealthy == {"a/b": frozenset({"10.0.0.1:8000"})}
    world.down, world.answer = False, "half an ans"
    await world.watch.look()
    assert world.changes == 1
    world.answer = clusters(**{"pool/a/b": [host("10.0.0.1")]})
    await world.watch.look()
    assert (world.changes, world.watch.unhealthy) == (2, {})


async def test_a_server_that_never_passed_is_given_time() -> None:
    world = World()
    world.answer = clusters(**{"pool/a/b": [host("10.0.0.1", **BAD)]})
    await world.watch.look()
    world.now_s += GRACE_S - 1.0
    await world.watch.look()
    assert world.watch.unhealthy == {}
    world.now_s += 1.0
    await world.watch.look()
    assert world.watch.unhealthy == {"a/b": frozenset({"10.0.0.1:8000"})}


def test_asking_takes_at_most_a_hundredth_of_the_time() -> None:
    assert pause_s(0.0) == INTERVAL_MIN_S
    assert pause_s(0.01) == pytest.approx(1.0)
    assert pause_s(9.0) == INTERVAL_MAX_S
