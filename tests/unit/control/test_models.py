"""Which models a listener lists."""

from __future__ import annotations

from inferway.control.models import listed_models
from inferway.envoy.model_list import ModelInfo
from inferway.picker.config import EndpointStatus, PickerStatus, PoolStatus
from inferway.routing.model import (
    Listener,
    Pool,
    Rewrite,
    RewriteTarget,
    Route,
    RouteMatch,
    RoutingModel,
    Target,
    TargetKind,
    VirtualHost,
)


def listener(name: str, *targets: Target) -> Listener:
    route = Route(f"{name}/0/0", RouteMatch(), targets)
    return Listener(name, "127.0.0.1", 8080, (VirtualHost(("*",), (route,)),))


def pool_target(name: str, weight: int = 1) -> Target:
    return Target(TargetKind.POOL, name, weight)


def endpoint(*models: str, **parents: str) -> EndpointStatus:
    return EndpointStatus(
        address="10.0.0.1:8000",
        reachable=True,
        age_s=0.0,
        models=models,
        adapters=tuple(parents),
        parents=parents,
    )


def pools(**rewrites: tuple[Rewrite, ...]) -> dict[str, Pool]:
    return {
        name: Pool(name, (), h2c=False, fail_open=True, policy="", objectives=(), rewrites=found)
        for name, found in rewrites.items()
    }


def rewrite(alias: str, **weights: int) -> Rewrite:
    return Rewrite(alias, tuple(RewriteTarget(name, weight) for name, weight in weights.items()))


def status(**pools: tuple[EndpointStatus, ...]) -> PickerStatus:
    return PickerStatus(
        version=1,
        pools=tuple(PoolStatus(name=name, endpoints=found) for name, found in pools.items()),
    )


def test_union_over_reachable_pools() -> None:
    model = RoutingModel(
        listeners=(
            listener("both", pool_target("a"), pool_target("b")),
            listener("first", pool_target("a"), pool_target("b", weight=0)),
            listener("none", Target(TargetKind.SERVERS, "a", 1), Target(TargetKind.ERROR, "b", 1)),
        ),
        pools=pools(a=(), b=()),
    )
    found = listed_models(
        model,
        status(
            a=(endpoint("llama", "bot", bot="llama"), endpoint("llama")),
            b=(endpoint("gemma"), endpoint()),
        ),
        first_seen={},
        now_s=500,
    )
    assert {name: [one.id for one in models] for name, models in found.items()} == {
        "both": ["bot", "gemma", "llama"],
        "first": ["bot", "llama"],
        "none": [],
    }
    assert found["first"] == (ModelInfo("bot", 500, parent="llama"), ModelInfo("llama", 500))


def test_first_seen_is_kept() -> None:
    model = RoutingModel(listeners=(listener("all", pool_target("a")),), pools=pools(a=()))
    first_seen: dict[str, int] = {}
    listed_models(model, status(a=(endpoint("llama"),)), first_seen=first_seen, now_s=1)
    later = status(a=(endpoint("llama", "gemma"),))
    found = listed_models(model, later, first_seen=first_seen, now_s=2)
    assert {one.id: one.created for one in found["all"]} == {"llama": 1, "gemma": 2}


def test_aliases_are_listed_while_a_target_is_served() -> None:
    targets = (pool_target("a"), pool_target("b"))
    rewrites = (
        rewrite("", any=1),
        rewrite("chat", v1=1, v2=2, v3=9),
        rewrite("gone", v3=1),
        rewrite("llama", llama=1),
    )
    model = RoutingModel(
        listeners=(listener("all", *targets),), pools=pools(a=rewrites, b=(rewrite("v1", v9=1),))
    )
    found = listed_models(
        model,
        status(a=(endpoint("llama", "v1", "v2", v1="llama", v2="llama"),), b=(endpoint("v9"),)),
        first_seen={},
        now_s=3,
    )["all"]
    assert found == (
        ModelInfo("chat", 3, root="v2", parent="llama"),
        ModelInfo("llama", 3),
        ModelInfo("v1", 3, parent="llama"),  # what is served comes before another pool's alias
        ModelInfo("v2", 3, parent="llama"),
        ModelInfo("v9", 3),
    )


def test_nothing_heard_of_the_picker_lists_nothing() -> None:
    model = RoutingModel(listeners=(listener("all", pool_target("a")),), pools=pools(a=()))
    assert listed_models(model, None, first_seen={}, now_s=1) == {"all": ()}
