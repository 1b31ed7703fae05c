"""Envoy's view of the endpoints, watched at a bounded cost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from inferway.control.health import (
    GRACE_S,
    INTERVAL_MAX_S,
    INTERVAL_MIN_S,
    HealthWatch,
    pause_s,
    until_backends_serve,
)
from inferway.envoy.admin import AdminUnavailableError
from inferway.envoy.cluster_health import backends_without_server, checked_endpoints


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


PENDING = {**BAD, "pending_active_hc": True}


def test_backends_that_nobody_serves_yet() -> None:
    text = clusters(
        **{
            "pool/default/one-of-two": [host("10.0.0.1", **BAD), host("10.0.0.2")],
            "pool/default/none": [host("10.0.0.3", **BAD), host("10.0.0.4", **PENDING)],
            "servers/default/plain": [host("10.0.0.5", **PENDING)],
            "picker/default/none": [host("10.0.0.6", **BAD)],
        }
    )
    assert backends_without_server(text) == ("pool/default/none", "servers/default/plain")


async def test_ready_waits_for_servers_but_not_for_ever() -> None:
    answers = [
        clusters(**{"pool/a/b": [host("10.0.0.1", **BAD)]}),
        "half an ans",
        clusters(**{"pool/a/b": [host("10.0.0.1")]}),
    ]

    async def ask() -> str:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    assert await until_backends_serve(ask, asyncio.Event(), patience_s=60.0) == ()
    assert len(answers) == 1
    answers[0] = clusters(**{"pool/a/b": [host("10.0.0.1", **BAD)]})
    assert await until_backends_serve(ask, asyncio.Event(), patience_s=0.01) == ("pool/a/b",)
    stop = asyncio.Event()
    stop.set()
    assert await until_backends_serve(ask, stop, patience_s=60.0) == ()


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
