"""What health means for a decision: who is left out, who is tried, and how much others get."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from inferway.picker.datalayer.models import Served

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.datalayer.state import DataLayer
    from inferway.picker.scheduling.decide import PoolScheduler

    Make = Callable[..., PoolScheduler]
    MakePick = Callable[..., object]

FIRST, SECOND = "10.0.0.1:8000", "10.0.0.2:8000"
POLICIES = ("marginal-cost", "least-request", "round-robin", "random")


def fail(layer: DataLayer, address: str, now_s: float = 0.0, times: int = 5) -> None:
    for _ in range(times):
        layer.health.attempt_failed(address, cause=2, status=0, retry_after_s=0.0, now_s=now_s)


def busy(layer: DataLayer, address: str, *, retry_after_s: float = 0.0, times: int = 1) -> None:
    for _ in range(times):
        layer.health.attempt_failed(
            address, cause=4, status=503, retry_after_s=retry_after_s, now_s=0.0
        )


def decide(made: PoolScheduler, pick: object, now_s: float = 0.0) -> tuple[str, list[str]]:
    """The address chosen, and all that are named."""
    decision = made.decide(pick, filter_id=1, now_s=now_s)  # type: ignore[arg-type]
    assert not isinstance(decision, str)
    return decision.address, decision.endpoints.split(",")


def test_an_ejected_endpoint_is_neither_chosen_nor_named(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(3)
    fail(layer, FIRST)
    for _ in range(20):
        assert FIRST not in decide(made, pick())[1]
    (removal,) = made.weigh(pick(), 0.0).removals  # type: ignore[arg-type]
    assert (removal.by, removal.keep.tolist()) == ("ejected", [False, True, True])


def test_one_request_at_a_time_tries_an_endpoint_again(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(3, "round-robin")
    fail(layer, FIRST)
    assert FIRST not in {decide(made, pick(), 4.9)[0] for _ in range(6)}
    # A batch: the probe is under way before the next one is decided.
    tried = Counter(decide(made, pick(stream=100 + one), 5.0)[0] for one in range(12))
    assert tried[FIRST] == 1
    layer.health.began(FIRST, (1, 100), status=200, now_s=6.0)
    layer.health.began(FIRST, (1, 101), status=200, now_s=6.0)
    layer.health.began(FIRST, (1, 102), status=200, now_s=6.0)
    assert Counter(decide(made, pick(), 6.0)[0] for _ in range(12))[FIRST] == 4


def test_with_too_many_ejected_all_are_used(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(2, "round-robin")
    fail(layer, FIRST)
    fail(layer, SECOND)
    assert {decide(made, pick())[0] for _ in range(4)} == {FIRST, SECOND}
    assert made.weigh(pick(), 0.0).removals == ()  # type: ignore[arg-type]
    one = scheduler(1)
    fail(layer, FIRST)
    assert decide(one, pick())[0] == FIRST


def test_an_ejected_endpoint_serves_the_model_that_nobody_else_has(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(3)
    layer.models(FIRST, Served(("llama", "tuned"), ("tuned",)))
    for address in (SECOND, "10.0.0.3:8000"):
        layer.models(address, Served(("llama",)))
    fail(layer, FIRST)
    assert decide(made, pick(model="tuned")) == (FIRST, [FIRST])
    assert FIRST not in decide(made, pick(model="llama"))[1]


@pytest.mark.parametrize("policy", POLICIES)
def test_back_pressure_lowers_the_share_under_every_policy(
    policy: str, scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(2, policy)
    busy(layer, FIRST, times=2)  # a quarter of its share
    chosen = Counter(decide(made, pick())[0] for _ in range(2_000))
    assert 0 < chosen[FIRST] <= 0.3 * 2_000
    named = [decide(made, pick())[1] for _ in range(50)]
    assert any(FIRST in one for one in named)


@pytest.mark.parametrize("policy", POLICIES)
def test_retry_after_is_waited_for_while_another_can_serve(
    policy: str, scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(2, policy)
    busy(layer, FIRST, retry_after_s=7.0)
    assert {decide(made, pick(), 6.9)[0] for _ in range(50)} == {SECOND}
    assert [one.by for one in made.weigh(pick(), 6.9).removals] == ["back-pressure"]  # type: ignore[arg-type]
    busy(layer, SECOND, retry_after_s=7.0)
    assert FIRST in {decide(made, pick(), 6.9)[0] for _ in range(50)}, "all are busy"
    # Later it has its whole share again.
    chosen = Counter(decide(made, pick(), 9.0)[0] for _ in range(200))
    assert chosen[FIRST] > 50
    assert made.weigh(pick(), 9.0).removals == ()  # type: ignore[arg-type]
