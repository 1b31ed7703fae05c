"""The recursion equals ordinary least squares over everything that is remembered."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.picker.datalayer.least_squares import Memory, prior, screened

TRUE = np.array([1.5, 0.4, 3.0, 1.0])
WIDE = {"low": 0.0, "high": 1e6}


def table(rng: np.random.Generator, count: int, noise: float = 0.05) -> np.ndarray:
    terms = rng.random((count, 4)) * rng.choice([0.1, 1.0, 10.0], (1, 4)) + 1e-3
    observed = terms @ TRUE * np.exp(noise * rng.standard_normal(count))
    return np.column_stack([terms, observed])


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), batches=st.integers(1, 12), keep=st.floats(0.5, 1.0))
def test_equals_least_squares_over_a_weighted_window_with_the_prior_as_observations(
    seed: int, batches: int, keep: float
) -> None:
    rng = np.random.default_rng(seed)
    memory, pull, center = Memory(4, keep=keep), prior(4, scale=0.1, proportions=0.5), np.ones(4)
    rows = []
    for age in reversed(range(batches)):
        batch = table(rng, int(rng.integers(1, 20)))
        memory.absorb(batch)
        rows.append(batch * keep ** (age / 2))
    root = np.linalg.cholesky(pull).T
    stacked = np.vstack([*rows, np.column_stack([root, root @ center])])
    expected, *_ = np.linalg.lstsq(stacked[:, :-1], stacked[:, -1], rcond=None)
    found = memory.solve(center, pull, low=-1e6, high=1e6)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), low=st.floats(0.01, 1.0), high=st.floats(1.0, 100.0))
def test_the_estimate_stays_within_its_bounds(seed: int, low: float, high: float) -> None:
    rng = np.random.default_rng(seed)
    memory = Memory(4, keep=0.9)
    for _ in range(5):
        batch = table(rng, 16)
        batch[:, -1] *= float(rng.choice([1e-4, 1.0, 1e4]))
        memory.absorb(batch)
        found = memory.solve(np.ones(4), prior(4, scale=0.01, proportions=0.05), low=low, high=high)
        assert (found >= low).all()
        assert (found <= high).all()


def test_a_bound_that_holds_one_coefficient_leaves_the_best_fit_of_the_others() -> None:
    rng = np.random.default_rng(3)
    terms = rng.random((200, 2)) + 0.1
    memory = Memory(2, keep=1.0)
    memory.absorb(np.column_stack([terms, terms @ [-1.0, 2.0]]))
    found = memory.solve(np.ones(2), prior(2, scale=1e-9, proportions=1e-9), low=0.5, high=9.0)
    rest = terms @ [-1.0, 2.0] - 0.5 * terms[:, 0]
    assert found[0] == 0.5
    np.testing.assert_allclose(found[1], max(0.5, terms[:, 1] @ rest / (terms[:, 1] ** 2).sum()))


def test_without_variation_the_proportions_stay_and_the_scale_follows() -> None:
    """A thousand equal observations, twice as slow as shipped: all coefficients double."""
    memory = Memory(4, keep=0.96)
    pull = prior(4, scale=0.01, proportions=0.05)
    for _ in range(60):
        memory.absorb(np.tile([0.25, 0.25, 0.25, 0.25, 2.0], (16, 1)))
    np.testing.assert_allclose(memory.solve(np.ones(4), pull, **WIDE), 2.0, rtol=1e-3)


def test_nothing_observed_is_the_centre() -> None:
    center = np.array([1.0, 2.0, 3.0, 4.0])
    found = Memory(4, keep=0.9).solve(center, prior(4, scale=0.1, proportions=1.0), **WIDE)
    np.testing.assert_allclose(found, center)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    garbage=st.integers(0, 5),
    factor=st.sampled_from([1e-6, 1e-2, 30.0, 1e6]),
)
def test_a_minority_of_garbage_is_dropped_and_the_rest_is_kept(
    seed: int, garbage: int, factor: float
) -> None:
    rng = np.random.default_rng(seed)
    batch = table(rng, 16)
    batch[:garbage, -1] *= factor
    believed, dropped = screened([tuple(row) for row in batch], TRUE)
    assert len(believed) + dropped == 16
    assert dropped >= garbage
    assert abs(np.log(believed[:, -1])).max() < 0.5  # the noise is 5 %
    assert len(believed) >= 8


def test_a_batch_that_agrees_on_another_speed_is_believed_up_to_a_factor() -> None:
    rng = np.random.default_rng(1)
    batch = table(rng, 16)
    batch[:, -1] *= 3.0
    believed, dropped = screened([tuple(row) for row in batch], TRUE)
    assert dropped <= 2
    np.testing.assert_allclose(np.median(believed[:, -1]), 3.0, rtol=0.1)
    batch[:, -1] *= 1000.0
    believed, _ = screened([tuple(row) for row in batch], TRUE)
    np.testing.assert_allclose(np.median(believed[:, -1]), np.exp(2.0), rtol=0.1)


def test_a_batch_without_agreement_is_dropped_whole() -> None:
    rng = np.random.default_rng(1)
    batch = table(rng, 16)
    batch[:, -1] *= np.exp(rng.uniform(-8.0, 8.0, 16))
    believed, dropped = screened([tuple(row) for row in batch], TRUE)
    assert (len(believed), dropped) == (0, 16)
