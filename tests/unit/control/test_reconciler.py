"""What is published when, to whom, and what people see of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from inferway.envoy.messages import resource_json
from inferway.resources import Gateway
from inferway.sources.snapshot import Snapshot

from .conftest import MANIFESTS, START

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .conftest import World

OTHER_POOL = MANIFESTS.replace("name: chat", "name: other").replace("app: chat", "app: other")


def programmed(world: World) -> tuple[str, str, str]:
    """Status, reason and message of the Gateway's Programmed condition."""
    view = world.reconciler.view
    (gateway,) = view.resources.of_kind(Gateway)
    (found,) = [one for one in view.statuses[gateway.key].conditions if one.type == "Programmed"]
    return found.status.value, found.reason, found.message


def test_everything_is_published_once(world: World) -> None:
    world.apply()
    (config,) = world.picker
    assert config.version == 1
    assert config.heartbeat_ms == 50, "the defaults go along"
    (pool,) = config.pools
    assert (pool.name, pool.policy, pool.objectives) == (
        "default/chat",
        "marginal-cost",
        {"urgent": 10},
    )
    (endpoint,) = pool.endpoints
    assert (endpoint.address, endpoint.server) == ("10.0.0.1:8000", "default/one")
    (xds,) = world.xds
    assert set(xds.clusters.resources) == {"pool/default/chat", "relay/default/entrance/http"}
    for _ in range(3):
        world.reconciler.reconcile()
    world.apply()
    assert (len(world.picker), len(world.xds)) == (1, 1), "the same manifests are no change"


def test_nothing_is_published_before_there_are_resources(world: World) -> None:
    world.reconciler.reconcile()
    assert not world.picker
    assert not world.xds
    assert not world.reconciler.in_effect


def test_only_what_differs_is_published(world: World) -> None:
    world.apply()
    world.in_force()
    world.apply(MANIFESTS.replace("priority: 10", "priority: 20"))
    assert (len(world.picker), len(world.xds)) == (2, 1)
    assert world.picker[-1].version == 2
    world.apply(MANIFESTS.replace("port: 8080", "port: 8081"))
    assert (len(world.picker), len(world.xds)) == (3, 2)


def test_reports_without_news_build_nothing(world: World) -> None:
    world.apply()
    world.in_force()
    builds, statuses = world.builds, world.reconciler.view.statuses
    for _ in range(5):
        world.picker_reports()
    assert world.builds == builds
    assert world.reconciler.view.statuses is statuses


def test_models_of_the_servers_reach_envoy(world: World) -> None:
    world.apply()
    world.in_force()
    world.picker_reports("llama", "bot", adapters=("bot",))
    (routes,) = world.xds[-1].routes.resources.values()
    text = resource_json(routes)
    assert "/v1/models/llama" in text
    assert "/v1/models/bot" in text
    assert len(world.picker) == 1, "models are no news to the picker"
    world.now_s += 1000
    world.picker_reports("llama", "bot", adapters=("bot",))
    assert len(world.xds) == 2, "when a model was first seen does not change"


def test_resolved_names_reach_both(world: World) -> None:
    world.apply(MANIFESTS.replace("host: 10.0.0.1", "host: one.test"))
    assert world.pools == {"default/chat": []}
    world.reconciler.resolver.addresses = {"one.test": ("10.0.0.7", "10.0.0.8")}
    world.reconciler.reconcile()
    assert world.pools == {"default/chat": ["10.0.0.7:8000", "10.0.0.8:8000"]}
    (assignment,) = world.xds[-1].endpoints.resources.values()
    assert "10.0.0.8" in resource_json(assignment)


def test_what_envoy_cannot_express_changes_nothing(world: World) -> None:
    world.apply()
    world.in_force()
    world.inexpressible = "duration: out of range"
    world.now_s += 5
    world.apply(OTHER_POOL)
    world.reconciler.reconcile()
    assert (len(world.picker), len(world.xds)) == (1, 1), "not even the picker hears of it"
    assert world.reconciler.view.envoy_error == "duration: out of range"
    assert not world.reconciler.in_effect
    status, _reason, message = programmed(world)
    assert status == "False"
    assert "duration: out of range" in message
    assert world.sample("inferway_config_rejections_total", part="envoy") == 1

    world.inexpressible = ""
    world.now_s += 600
    world.apply()
    assert world.reconciler.view.envoy_error == ""
    assert world.reconciler.in_effect, "back to the one that is in force"
    assert programmed(world)[0] == "True"
    assert world.sample("inferway_config_apply_seconds_sum") == 0.0, (
        "ten minutes in which nobody could have applied it are not apply time"
    )


def test_refusal_of_envoy_is_shown_and_counted_once(world: World) -> None:
    world.apply()
    assert programmed(world)[:2] == ("Unknown", "Pending")
    with structlog.testing.capture_logs() as events:
        world.envoy_refuses("no such filter")
        world.reconciler.reconcile()
        world.picker_reports()
    assert [event["problem"] for event in events] == ["LISTENER: no such filter"]
    assert world.sample("inferway_config_rejections_total", part="envoy") == 1
    assert not world.reconciler.in_effect
    status, _reason, message = programmed(world)
    assert status == "False"
    assert "LISTENER: no such filter" in message
    assert world.sample("inferway_config_apply_seconds_count") == 0
    world.envoy_acknowledges()
    world.envoy_refuses("again")
    assert world.sample("inferway_config_rejections_total", part="envoy") == 2


def test_refusal_of_the_picker_is_counted_once(world: World) -> None:
    world.apply()
    world.in_force()
    world.apply(OTHER_POOL)
    world.envoy_acknowledges()
    for _ in range(2):
        world.picker_reports(error="policy: unknown", version=1)
    assert world.sample("inferway_config_rejections_total", part="picker") == 1
    assert not world.reconciler.in_effect


def test_in_effect_needs_both_to_follow_the_newest(world: World) -> None:
    world.apply()
    assert not world.reconciler.in_effect
    world.envoy_acknowledges()
    assert not world.reconciler.in_effect, "nothing heard of the picker"
    world.picker_reports()
    assert world.reconciler.in_effect
    world.apply(MANIFESTS.replace("priority: 10", "priority: 20"))
    assert not world.reconciler.in_effect, "the picker has the old objectives"
    world.picker_reports()
    assert world.reconciler.in_effect
    world.apply(MANIFESTS.replace("port: 8080", "port: 8081"))
    world.picker_reports()
    assert not world.reconciler.in_effect, "Envoy has the old listener"
    world.envoy_acknowledges()
    assert world.reconciler.in_effect


def test_apply_time_is_observed_once_per_change(world: World) -> None:
    world.apply()
    world.now_s += 0.25
    world.envoy_acknowledges()
    assert world.sample("inferway_config_apply_seconds_count") == 0
    world.now_s += 0.25
    world.picker_reports()
    for _ in range(3):
        world.picker_reports()
    assert world.sample("inferway_config_apply_seconds_count") == 1
    assert world.sample("inferway_config_apply_seconds_sum") == 0.5
    world.apply()
    assert world.sample("inferway_config_apply_seconds_count") == 2, "nothing to wait for"


def test_apply_time_of_changes_in_a_row_is_that_of_the_first(world: World) -> None:
    world.apply()
    world.now_s += 1
    world.apply(MANIFESTS.replace("port: 8080", "port: 8081"))
    world.now_s += 1
    world.in_force()
    assert world.sample("inferway_config_apply_seconds_count") == 1
    assert world.sample("inferway_config_apply_seconds_sum") == 2.0


def test_a_pool_that_is_gone_stays_until_envoy_has_let_go_of_it(world: World) -> None:
    world.apply()
    world.in_force()
    world.apply(OTHER_POOL)
    assert set(world.pools) == {"default/chat", "default/other"}
    pools = [name for name in world.xds[-1].clusters.resources if name.startswith("pool/")]
    assert pools == ["pool/default/other"]
    world.envoy_refuses("no")
    assert set(world.pools) == {"default/chat", "default/other"}
    world.envoy_acknowledges()
    assert set(world.pools) == {"default/other"}
    assert not world.reconciler.in_effect, "until the picker has dropped it too"
    world.picker_reports()
    assert world.reconciler.in_effect


def test_transition_times_stay_while_a_status_does(world: World) -> None:
    def times() -> dict[str, set[float]]:
        return {
            key.kind: {(c.last_transition_time - START) / timedelta(seconds=1) for c in levels}
            for key, status in world.reconciler.view.statuses.items()
            if (levels := status.conditions)
        }

    world.apply()
    assert times()["Gateway"] == {100.0}
    world.now_s = 160.0
    world.envoy_acknowledges()
    assert times()["Gateway"] == {100.0, 160.0}, "only Programmed has flipped"
    world.now_s = 200.0
    world.apply(MANIFESTS.replace("priority: 10", "priority: 20"))
    assert times()["Gateway"] == {100.0, 160.0}


def test_problems_are_counted_and_logged_when_new(world: World) -> None:
    broken = MANIFESTS.replace("port: 8080", "port: 99999")
    with structlog.testing.capture_logs() as events:
        world.apply(broken)
        world.apply(broken)
    assert [event["log_level"] for event in events] == ["error"]
    assert "all.yaml" in events[0]["problem"]
    assert world.sample("inferway_manifest_problems", severity="error") == 1
    assert world.sample("inferway_resources", kind="Gateway") == 0
    assert world.sample("inferway_resources", kind="InferencePool") == 1
    world.apply()
    assert world.sample("inferway_manifest_problems", severity="error") == 0
    assert world.sample("inferway_resources", kind="Gateway") == 1


def test_run_follows_the_source_and_outlives_it(
    world: World, virtually: Callable[..., None]
) -> None:
    async def source(wait: asyncio.Event) -> AsyncIterator[Snapshot]:
        yield Snapshot(world.reconciler.view.resources, (), 0.0)
        await wait.wait()
        world.apply()
        yield Snapshot(world.reconciler.view.resources, (), 0.0)

    async def scenario() -> None:
        go_on = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(world.reconciler.run(source(go_on)))
            await asyncio.sleep(0.001)
            assert world.pools == {}
            go_on.set()
            await asyncio.sleep(0.001)
            assert list(world.pools) == ["default/chat"]
            world.picker_reports("llama")
            world.reconciler.changed()
            await asyncio.sleep(0.001)
            assert not running.done()
            running.cancel()

    virtually(scenario())


def test_an_unhealthy_endpoint_reaches_the_picker_and_nobody_else(world: World) -> None:
    world.apply()
    world.unhealthy = {"default/chat": frozenset({"10.0.0.1:8000"})}
    world.reconciler.reconcile()
    world.reconciler.reconcile()
    ready = [[one.ready for one in config.pools[0].endpoints] for config in world.picker]
    assert ready == [[True], [False]]
    assert [config.version for config in world.picker] == [1, 2]
    world.unhealthy = {}
    world.reconciler.reconcile()
    assert world.picker[-1].pools == world.picker[0].pools
    assert len(world.xds) == 1


def test_what_is_accepted_but_not_yet_published_is_not_in_effect(world: World) -> None:
    world.apply()
    world.in_force()
    assert world.reconciler.in_effect
    resources = world.reconciler.view.resources
    world.reconciler.accept(Snapshot(resources, (), world.now_s))
    assert not world.reconciler.in_effect
    world.reconciler.reconcile()
    assert world.reconciler.in_effect
