"""From costs to an ordered list of rows."""

from __future__ import annotations

from collections import Counter
from math import inf, nan

import numpy as np
import pytest

from inferway.picker.scheduling.select import choose


class NoRandom:
    """Fails when a draw is made that is not needed."""

    def random(self, size: int = 1) -> np.ndarray:
        raise AssertionError("no tie, no draw")


@pytest.mark.parametrize("padding", [0, 40])
def test_best_first_then_fallbacks_by_cost(padding: int) -> None:
    """With padding the list is long enough for the array code."""
    costs = np.array([3.0, 1.0, 2.0, 5.0, 4.0] + [9.0 + i for i in range(padding)])
    assert choose(costs, None, NoRandom(), count=4) == [1, 2, 0, 4]
    assert choose(costs, None, NoRandom(), count=1) == [1]
    assert choose(costs[:2], None, NoRandom(), count=4) == [1, 0]


@pytest.mark.parametrize("padding", [0, 40])
def test_endpoints_that_are_not_ready_are_never_named(padding: int) -> None:
    costs = np.array([1.0, 2.0, 3.0, 4.0] + [9.0] * padding)
    ready = np.array([False, True, False, True] + [False] * padding)
    assert choose(costs, ready, NoRandom(), count=4) == [1, 3]
    assert choose(costs, np.zeros_like(ready), NoRandom(), count=4) == []
    assert choose(costs[:0], None, NoRandom(), count=4) == []


@pytest.mark.parametrize("padding", [0, 40])
def test_ties_are_drawn_uniformly_and_fallbacks_follow_in_turn(padding: int) -> None:
    costs = np.array([2.0, 1.0, 1.0 + 1e-12, 3.0, 1.0] + [9.0] * padding)
    rng = np.random.default_rng(2)
    orders = Counter(tuple(choose(costs, None, rng, count=4)) for _ in range(3000))
    assert set(orders) == {(1, 2, 4, 0), (2, 4, 1, 0), (4, 1, 2, 0)}
    assert all(abs(times - 1000) < 110 for times in orders.values())


@pytest.mark.parametrize("count", [4, 40])
def test_all_equal_costs_spread_over_all_rows(count: int) -> None:
    rng = np.random.default_rng(3)
    bests = Counter(choose(np.zeros(count), None, rng, count=4)[0] for _ in range(count * 200))
    assert len(bests) == count
    assert all(abs(times - 200) < 75 for times in bests.values())


def test_negative_costs_tie_by_relative_distance() -> None:
    costs = np.array([-7.0, -7.0 + 1e-12, -6.9])
    bests = {choose(costs, None, np.random.default_rng(s), count=4)[0] for s in range(20)}
    assert bests == {0, 1}


@pytest.mark.parametrize("padding", [0, 40])
@pytest.mark.parametrize("unusable", [nan, inf])
def test_a_cost_that_is_no_number_loses_but_stays_a_fallback(padding: int, unusable: float) -> None:
    costs = np.array([unusable, 2.0, 1.0] + [9.0] * padding)
    ready = np.array([True, True, True] + [False] * padding)
    assert choose(costs, ready, NoRandom(), count=4) == [2, 1, 0]


@pytest.mark.parametrize("count", [3, 40])
def test_nothing_but_unusable_costs_still_picks_something(count: int) -> None:
    ready = np.ones(count, dtype=bool)
    ready[0] = False
    rows = choose(np.full(count, nan), ready, np.random.default_rng(1), count=4)
    assert len(rows) == min(count - 1, 4)
    assert 0 not in rows


def test_costs_are_not_changed() -> None:
    costs = np.arange(50, dtype=float)
    choose(costs, np.ones(50, dtype=bool), NoRandom(), count=4)
    choose(costs, None, NoRandom(), count=4)
    assert costs.tolist() == list(range(50))
