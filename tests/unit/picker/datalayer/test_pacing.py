"""When to scrape, in virtual time."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from inferway.picker.config import ScrapeConfig
from inferway.picker.datalayer.pacing import Pace, Schedule

LIMITS = ScrapeConfig(interval_min_s=0.1, interval_max_s=5.0, cost_max_ratio=0.05)


def pace(cost_s: float, picked_at_s: float = 0.0) -> Pace:
    made = Pace(LIMITS)
    made.measured(cost_s / 2)  # what is measured is half of the whole
    made.picked(picked_at_s)
    return made


@pytest.mark.parametrize(
    ("cost_s", "endpoints", "expected_s"),
    [
        (200e-6, 1, 0.1),  # cheap: as fast as allowed
        (200e-6, 25, 0.1),  # exactly at the cap
        (200e-6, 100, 0.4),  # 100 · 200 µs / 0.4 s = 5 % of a core
        (1e-3, 100, 2.0),
        (1e-3, 10_000, 5.0),  # the slowest pace wins over the cap
        (200e-6, 0, 0.1),
    ],
)
def test_the_interval_keeps_the_cost_cap(cost_s: float, endpoints: int, expected_s: float) -> None:
    assert pace(cost_s).interval_s(endpoints, now_s=1.0) == pytest.approx(expected_s)


def test_a_lower_cost_is_believed_at_once_and_a_higher_one_slowly() -> None:
    made = Pace(LIMITS)
    made.measured(50e-6)
    assert made.cost_s == 100e-6
    made.measured(50e-3)  # a large decision ran meanwhile
    assert made.cost_s == pytest.approx(100.5e-6)
    for _ in range(140):
        made.measured(1.0)
    assert made.cost_s == pytest.approx(202e-6, rel=0.02)
    made.measured(0.0)
    assert made.cost_s > 200e-6


def test_scrapes_slow_down_while_nothing_is_picked() -> None:
    made = pace(200e-6, picked_at_s=100.0)
    times = [100.0, 102.0, 103.0, 106.0, 110.0, 1000.0]
    assert [made.interval_s(4, t) for t in times] == [0.1, 0.1, 1.5, 3.0, 5.0, 5.0]


def test_before_the_first_pick_the_pace_is_slowest() -> None:
    assert Pace(LIMITS).interval_s(4, now_s=0.0) == 5.0


def test_the_first_pick_after_a_pause_asks_for_fresh_readings() -> None:
    made = Pace(LIMITS)
    assert made.picked(10.0) is True
    assert made.picked(10.5) is False
    assert made.picked(12.4) is False
    assert made.picked(20.0) is True


def test_new_addresses_are_due_at_once_and_each_is_under_way_once() -> None:
    schedule = Schedule(lambda: 0.5)
    schedule.set_addresses(["a", "b"], now_s=1.0)
    assert {schedule.take_due(1.0), schedule.take_due(1.0)} == {"a", "b"}
    assert schedule.take_due(100.0) is None
    assert schedule.next_due_s() is None
    schedule.finished("a", now_s=2.0, interval_s=1.0)
    assert schedule.next_due_s() == 3.0
    assert schedule.take_due(2.9) is None
    assert schedule.take_due(3.0) == "a"


def test_removed_addresses_never_come_back() -> None:
    schedule = Schedule(lambda: 0.5)
    schedule.set_addresses(["a", "b"], now_s=0.0)
    assert schedule.take_due(0.0) == "a"
    schedule.set_addresses(["b"], now_s=0.0)
    schedule.finished("a", now_s=0.0, interval_s=1.0)
    assert len(schedule) == 1
    assert schedule.take_due(0.0) == "b"
    assert schedule.take_due(1e9) is None


def test_an_address_that_stays_keeps_its_turn() -> None:
    schedule = Schedule(lambda: 0.5)
    schedule.set_addresses(["a"], now_s=0.0)
    schedule.take_due(0.0)
    schedule.finished("a", now_s=0.0, interval_s=5.0)
    schedule.set_addresses(["a", "b"], now_s=1.0)
    assert schedule.take_due(1.0) == "b"
    assert schedule.next_due_s() == 5.0


def test_haste_brings_late_turns_forward_and_spreads_them() -> None:
    rng = random.Random(4)
    schedule = Schedule(rng.random)
    addresses = [f"e{i}" for i in range(100)]
    schedule.set_addresses(addresses, now_s=0.0)
    for _ in addresses:
        schedule.finished(schedule.take_due(0.0) or "", now_s=0.0, interval_s=5.0)
    assert schedule.next_due_s() > 4.0
    schedule.hasten(now_s=1.0, within_s=0.1)
    first_half = sum(schedule.take_due(1.05) is not None for _ in addresses)
    second_half = sum(schedule.take_due(1.1) is not None for _ in addresses)
    assert first_half + second_half == 100
    assert 30 < first_half < 70


def test_over_a_minute_every_endpoint_gets_its_share_without_bursts() -> None:
    rng = random.Random(5)
    schedule = Schedule(rng.random)
    schedule.set_addresses([f"e{i}" for i in range(20)], now_s=0.0)
    turns: Counter[str] = Counter()
    now_s, busiest = 0.0, 0
    while now_s < 60.0:
        taken = 0
        while (address := schedule.take_due(now_s)) is not None:
            schedule.finished(address, now_s, interval_s=1.0)
            turns[address] += 1
            taken += 1
        if now_s > 30.0:
            busiest = max(busiest, taken)
        now_s += 0.01
    assert all(57 <= turns[f"e{i}"] <= 63 for i in range(20))
    assert busiest <= 5
