"""Each picker: who is chosen, how often, and how many are named."""

from __future__ import annotations

import numpy as np
import pytest

from inferway.picker.scheduling.contracts import Picker
from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.registry import PLUGINS

NAMES = ("max-score-picker", "random-picker", "weighted-random-picker")


def picker(name: str, **parameters: object) -> Picker:
    plugin = made(PLUGINS[name], parameters, name=name)  # type: ignore[arg-type]
    assert isinstance(plugin, Picker)
    return plugin


def shares(name: str, costs: list[float], candidates: list[bool] | None = None) -> list[float]:
    """How often each row is first, of 4,000."""
    rng, plugin = np.random.default_rng(5), picker(name)
    among = None if candidates is None else np.array(candidates)
    firsts = [plugin.choose(np.array(costs), among, rng, count=1)[0] for _ in range(4000)]
    counted: list[float] = (np.bincount(firsts, minlength=len(costs)) / 4000).tolist()
    return counted


def near(expected: list[float]) -> object:
    """Four standard deviations."""
    return pytest.approx(expected, abs=4 * (0.25 / 4000) ** 0.5)


def test_max_score_is_the_lowest_cost_and_ties_are_shared() -> None:
    assert shares("max-score-picker", [-1.0, -3.0, -2.0]) == [0.0, 1.0, 0.0]
    assert shares("max-score-picker", [-3.0, -3.0, -2.0]) == near([0.5, 0.5, 0.0])
    assert shares("max-score-picker", [-9.0, -3.0], [False, True]) == [0.0, 1.0]


def test_random_takes_no_account_of_costs() -> None:
    assert shares("random-picker", [-9.0, 0.0, 5.0, 1.0]) == near([0.25] * 4)
    assert shares("random-picker", [-9.0, 0.0, 5.0], [False, True, True]) == near([0.0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("costs", "candidates", "expected"),
    [
        ([-1.0, -3.0], None, [0.25, 0.75]),
        ([-2.0, -6.0, 0.0], None, [0.25, 0.75, 0.0]),
        ([0.0, 0.0, 0.0, 0.0], None, [0.25] * 4),
        ([-1.0, -3.0, -4.0], [True, True, False], [0.25, 0.75, 0.0]),
        # With costs, what each is cheaper than the dearest: 3, 1, 0.
        ([1.0, 3.0, 4.0], None, [0.75, 0.25, 0.0]),
        ([-1.0, 1.0, 2.0], None, [0.75, 0.25, 0.0]),
        # Small scores do not vanish.
        ([-1e-9, -3e-9], None, [0.25, 0.75]),
    ],
)
def test_weighted_random_is_in_proportion_to_scores(
    costs: list[float], candidates: list[bool] | None, expected: list[float]
) -> None:
    assert shares("weighted-random-picker", costs, candidates) == near(expected)


def test_weighted_random_names_who_scores_nothing_last() -> None:
    rng, plugin = np.random.default_rng(1), picker("weighted-random-picker")
    for _ in range(100):
        rows = plugin.choose(np.array([0.0, -1.0, 0.0, -2.0]), None, rng, count=4)
        assert sorted(rows[:2]) == [1, 3]
        assert sorted(rows[2:]) == [0, 2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 3, 17, 40])
def test_who_is_named(name: str, count: int) -> None:
    rng, plugin = np.random.default_rng(count), picker(name)
    for _ in range(50):
        costs = rng.random(count) - 0.5
        candidates = rng.random(count) < 0.7
        before = costs.copy()
        rows = plugin.choose(costs, candidates, rng, count=4)
        assert len(rows) == min(4, int(candidates.sum()))
        assert len(set(rows)) == len(rows)
        assert all(candidates[row] for row in rows)
        assert np.array_equal(costs, before)


@pytest.mark.parametrize("name", NAMES)
def test_nobody_and_at_most_so_many(name: str) -> None:
    rng = np.random.default_rng(1)
    costs, nobody = np.array([1.0, 2.0, 3.0]), np.zeros(3, dtype=np.bool_)
    assert picker(name).choose(costs, nobody, rng, count=4) == []
    assert picker(name).choose(np.zeros(0), None, rng, count=4) == []
    assert len(picker(name, maxNumOfEndpoints=2).choose(costs, None, rng, count=4)) == 2
    assert len(picker(name, maxNumOfEndpoints=9).choose(costs, None, rng, count=2)) == 2
