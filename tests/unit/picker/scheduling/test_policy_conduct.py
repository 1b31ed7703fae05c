"""Every policy in a pool where requests come and end and endpoints go out and come back."""

from __future__ import annotations

from collections import Counter, deque
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway.picker.datalayer.engines import Reading
from inferway.picker.datalayer.readiness import Unready
from inferway.picker.scheduling.decide import Decision, PoolScheduler
from inferway.picker.scheduling.registry import POLICIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.datalayer.state import DataLayer

    Make = Callable[..., PoolScheduler]
    MakePick = Callable[..., object]


@pytest.mark.parametrize("policy_name", POLICIES)
def test_nobody_is_chosen_who_may_not_be_and_nothing_is_left(
    scheduler: Make, pick: MakePick, layer: DataLayer, policy_name: str
) -> None:
    made, rng = scheduler(6, policy_name), np.random.default_rng(4)
    table = layer.pools["ns/pool"].table
    running, out = deque[int](), set[int]()
    for _ in range(600):
        if rng.random() < 0.1:
            row = int(rng.integers(0, 6))
            out ^= {row}
            table.set_unready(row, Unready.CHECKS, row in out)
        if rng.random() < 0.2:
            address = table.addresses[int(rng.integers(0, 6))]
            reading = Reading(float(rng.integers(0, 9)), float(rng.integers(0, 40)), rng.random())
            layer.scraped(address, reading, 0.0, 10.0)
        asked = pick(
            "abcdef"[int(rng.integers(0, 6))] * int(rng.integers(1, 30)),
            session=f"s{rng.integers(0, 9)}",
        )
        found = made.decide(asked, filter_id=1, now_s=10.0)  # type: ignore[arg-type]
        if isinstance(found, Decision):
            named = [table.rows[address] for address in found.endpoints.split(",")]
            assert found.row == named[0]
            assert len(set(named)) == len(named) <= min(4, 6 - len(out))
            if not made.profile.filters:
                assert len(named) == min(4, 6 - len(out))
            assert out.isdisjoint(named)
            running.append(asked.stream)  # type: ignore[attr-defined]
        else:
            assert len(out) == 6
        while len(running) > 40:
            layer.in_flight.done(1, running.popleft())
    for stream in running:
        layer.in_flight.done(1, stream)
    assert not table.view().load[:3].any()


@pytest.mark.parametrize(
    "policy_name", ["lmetric", "expected-ttft", "sticky-until-saturated", "least-request"]
)
def test_prompts_that_share_nothing_spread(
    scheduler: Make, pick: MakePick, policy_name: str
) -> None:
    made = scheduler(5, policy_name)
    chosen = Counter(
        made.decide(pick(chr(500 + n) * 20), filter_id=1, now_s=1.0).row  # type: ignore[arg-type, union-attr]
        for n in range(50)
    )
    assert set(chosen.values()) == {10}


def test_power_of_two_stays_near_the_mean(scheduler: Make, pick: MakePick) -> None:
    """A random choice would leave some endpoint 20 above a mean of 50."""
    made = scheduler(40, "power-of-two")
    chosen = Counter(
        made.decide(pick(), filter_id=1, now_s=1.0).row  # type: ignore[arg-type, union-attr]
        for _ in range(2000)
    )
    assert max(chosen.values()) <= 54


def test_sticky_until_saturated_keeps_a_group_together_until_it_is_too_much(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made, shared = scheduler(4, "sticky-until-saturated"), "abcdefghij" * 12

    def choose(tail: str) -> int:
        found = made.decide(pick(shared + tail), filter_id=1, now_s=1.0)  # type: ignore[arg-type]
        assert isinstance(found, Decision)
        return found.row

    home = choose("")
    assert {choose(tail) for tail in "klmnop"} == {home}
    # 18 s of prefill at 15,928 tokens/s, beyond what the others have.
    layer.pools["ns/pool"].table.charge(home, 300_000, 300_000)
    assert choose("q") != home


def test_consistent_hash_keeps_sessions_and_bounds_loads(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(5, "consistent-hash")
    table = layer.pools["ns/pool"].table
    homes: dict[str, int] = {}
    for n in range(60):  # nothing else runs: every session goes home
        asked = pick(session=f"s{n % 20}")
        found = made.decide(asked, filter_id=1, now_s=1.0)  # type: ignore[arg-type]
        assert isinstance(found, Decision)
        assert homes.setdefault(f"s{n % 20}", found.row) == found.row
        layer.in_flight.done(1, asked.stream)  # type: ignore[attr-defined]
    assert len(set(homes.values())) > 1
    for total in range(1, 101):  # one session alone, and nothing ends
        made.decide(pick(session="s0"), filter_id=1, now_s=1.0)  # type: ignore[arg-type]
        assert max(table.in_flight(row) for row in range(5)) <= ceil(1.25 * total / 5)


def test_a_policy_does_not_count_endpoints_that_are_out(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    """The longest queue is that of an endpoint that is out: it sets no scale for the others."""
    made = scheduler(3, "reference-default")
    for address, waiting in zip(
        layer.pools["ns/pool"].table.addresses, (1000.0, 1.0, 0.0), strict=True
    ):
        layer.scraped(address, Reading(waiting, 1.0, 0.5), 0.0, 1.0)
    layer.pools["ns/pool"].table.set_unready(0, Unready.CHECKS, True)
    found = made.decide(pick(), filter_id=1, now_s=1.0)  # type: ignore[arg-type]
    assert isinstance(found, Decision)
    assert found.row == 2
