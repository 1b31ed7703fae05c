"""The admin API over HTTP, in front of a control plane whose parts are played."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from inferway import __version__
from inferway.control.admin import Admin
from inferway.picker.link_server import PickerLink

from .conftest import MANIFESTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from inferway.resources import ResourceKey

    from .conftest import World

ELSEWHERE = """
---
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: one, namespace: elsewhere, labels: {app: chat}}
spec: {addresses: [{host: named.test, port: 80}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: lonely, namespace: elsewhere}
spec:
  selector: {matchLabels: {app: chat}}
  targetPorts: [{number: 8000}]
"""


class Played:
    """The parts that are no part of control."""

    ready = True
    envoy_page: str | None = "envoy_up 1\n"

    def __init__(self) -> None:
        self.rollouts: dict[ResourceKey, dict[str, object]] = {}

    async def envoy_metrics(self) -> str:
        if self.envoy_page is None:
            raise web.HTTPServiceUnavailable(text="Envoy does not answer\n")
        return self.envoy_page


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
async def client(world: World, played: Played) -> AsyncIterator[TestClient[Any, Any]]:
    admin = Admin(
        world.reconciler,
        picker_status=lambda: world.status,
        parts=lambda: {"picker": {"pid": 12}},
        own_metrics=world.metrics.text,
        envoy_metrics=played.envoy_metrics,
        ready=lambda: played.ready,
        rollouts=lambda: played.rollouts,
        explain=PickerLink().explain,
        directory="/somewhere",
    )
    async with TestClient(TestServer(admin.application())) as running:
        yield running


async def items(client: TestClient[Any, Any], **query: str) -> list[tuple[str, str, str]]:
    async with client.get("/admin/resources", params=query) as reply:
        assert reply.status == 200
        found = (await reply.json())["items"]
    return [
        (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
        for one in found
    ]


async def test_health_and_readiness(client: TestClient[Any, Any], played: Played) -> None:
    async with client.get("/healthz") as reply:
        assert (reply.status, await reply.text()) == (200, "ok\n")
    async with client.get("/readyz") as reply:
        assert reply.status == 200
    played.ready = False
    async with client.get("/readyz") as reply:
        assert (reply.status, await reply.text()) == (503, "not ready\n")
    async with client.get("/version") as reply:
        assert await reply.json() == {"version": __version__}


async def test_metrics_of_control_and_picker_are_one_page(
    client: TestClient[Any, Any], world: World
) -> None:
    async with client.get("/metrics") as reply:
        before = await reply.text()
    assert "inferway_config_apply_seconds" in before, "also before the picker has said anything"
    world.apply()
    world.in_force()
    async with client.get("/metrics") as reply:
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        names = {one.name for one in text_string_to_metric_families(await reply.text())}
    assert {"inferway_config_apply_seconds", "inferway_resources", "inferway_picks_total"} <= names


async def test_metrics_of_envoy(client: TestClient[Any, Any], played: Played) -> None:
    async with client.get("/metrics/envoy") as reply:
        assert await reply.text() == "envoy_up 1\n"
    played.envoy_page = None
    async with client.get("/metrics/envoy") as reply:
        assert reply.status == 503


async def test_status(client: TestClient[Any, Any], world: World) -> None:
    async with client.get("/admin/status") as reply:
        empty = await reply.json()
    assert (empty["in_effect"], empty["listeners"], empty["pools"]) == (False, [], [])

    world.apply(MANIFESTS.replace("host: 10.0.0.1", "host: named.test"))
    world.in_force()
    async with client.get("/admin/status") as reply:
        status = await reply.json()
    assert status["in_effect"] is True
    assert status["parts"] == {"picker": {"pid": 12}}
    assert status["listeners"] == [
        {"name": "default/entrance/http", "address": "127.0.0.1", "port": 8080}
    ]
    assert [pool["name"] for pool in status["pools"]] == ["default/chat"]
    assert status["unresolved_names"] == ["named.test"]
    assert (status["envoy_error"], status["picker_error"], status["problems"]) == ("", "", [])

    world.picker_reports(error="policy: unknown")
    world.inexpressible = "too long"
    world.apply(MANIFESTS.replace("port: 8080", "port: 99999"))
    async with client.get("/admin/status") as reply:
        status = await reply.json()
    assert status["in_effect"] is False
    assert (status["envoy_error"], status["picker_error"]) == ("too long", "policy: unknown")
    (problem,) = status["problems"]
    assert problem["severity"] == "error"
    assert problem["text"].startswith("all.yaml:")
    assert any("no Gateway in the manifests" in text for text in status["warnings"])


async def test_resources_are_manifests_with_status_and_origin(
    client: TestClient[Any, Any], world: World
) -> None:
    world.apply()
    async with client.get("/admin/resources", params={"kind": "gateway"}) as reply:
        (gateway,) = (await reply.json())["items"]
    assert gateway["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert gateway["spec"]["listeners"][0]["port"] == 8080
    types = [one["type"] for one in gateway["status"]["conditions"]]
    assert types == ["Accepted", "Programmed"]
    assert gateway["origin"] == "all.yaml:24"


@pytest.mark.parametrize("kind", ["InferencePool", "inferencepools", "infpool", "POOL"])
async def test_resources_of_a_kind(client: TestClient[Any, Any], world: World, kind: str) -> None:
    world.apply(MANIFESTS + ELSEWHERE)
    assert await items(client, kind=kind) == [
        ("InferencePool", "default", "chat"),
        ("InferencePool", "elsewhere", "lonely"),
    ]


async def test_resources_by_namespace_and_name(client: TestClient[Any, Any], world: World) -> None:
    world.apply(MANIFESTS + ELSEWHERE)
    assert len(await items(client)) == 8
    assert await items(client, namespace="elsewhere") == [
        ("GatewayClass", "", "inferway"),
        ("ModelServer", "elsewhere", "one"),
        ("InferencePool", "elsewhere", "lonely"),
    ]
    assert await items(client, kind="ms", name="one", namespace="elsewhere") == [
        ("ModelServer", "elsewhere", "one")
    ]
    assert await items(client, name="one") == [
        ("ModelServer", "default", "one"),
        ("ModelServer", "elsewhere", "one"),
    ]
    assert await items(client, kind="ms", name="absent") == []


async def test_unknown_kind(client: TestClient[Any, Any], world: World) -> None:
    world.apply()
    async with client.get("/admin/resources", params={"kind": "pods"}) as reply:
        assert reply.status == 404
        assert await reply.json() == {"error": "unknown kind: pods"}
