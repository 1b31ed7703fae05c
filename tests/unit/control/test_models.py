"""Which models a listener lists."""

from __future__ import annotations

from inferway.control.models import listed_models
from inferway.envoy.model_list import ModelInfo
from inferway.picker.config import EndpointStatus, PickerStatus, PoolStatus
from inferway.routing.model import (
    Listener,
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


def endpoint(*models: str, adapters: tuple[str, ...] = ()) -> EndpointStatus:
    return EndpointStatus(
        address="10.0.0.1:8000", reachable=True, age_s=0.0, models=models, adapters=adapters
    )


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
        )
    )
    found = listed_models(
        model,
        status(
            a=(endpoint("llama", "bot", adapters=("bot",)), endpoint("llama")),
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
    model = RoutingModel(listeners=(listener("all", pool_target("a")),))
    first_seen: dict[str, int] = {}
    listed_models(model, status(a=(endpoint("llama"),)), first_seen=first_seen, now_s=1)
    later = status(a=(endpoint("llama", "gemma"),))
    found = listed_models(model, later, first_seen=first_seen, now_s=2)
    assert {one.id: one.created for one in found["all"]} == {"llama": 1, "gemma": 2}


def test_adapter_of_an_unnamed_base_has_no_parent() -> None:
    model = RoutingModel(listeners=(listener("all", pool_target("a")),))
    only = status(a=(endpoint("bot", adapters=("bot",)),))
    (found,) = listed_models(model, only, first_seen={}, now_s=1)["all"]
    assert found.parent is None


def test_nothing_heard_of_the_picker_lists_nothing() -> None:
    model = RoutingModel(listeners=(listener("all", pool_target("a")),))
    assert listed_models(model, None, first_seen={}, now_s=1) == {"all": ()}
