"""Bounds against published and exactly calculated numbers."""

from __future__ import annotations

from math import comb

import pytest

from inferway.rollout.statistics import (
    binomial_cdf,
    bucket_of_rank,
    quantile_bucket,
    quantile_ranks,
    rate_increase_lower_bound,
    wilson_bounds,
)


@pytest.mark.parametrize(
    ("events", "trials", "confidence", "lower", "upper"),
    [
        # Newcombe (1998), two-sided 95 %: each side 97.5 %.
        (81, 263, 0.975, 0.2553, 0.3662),
        (15, 148, 0.975, 0.0624, 0.1605),
        (0, 20, 0.975, 0.0, 0.1611),
        (1, 29, 0.975, 0.0061, 0.1718),
        # One-sided 95 %: z = 1.645.
        (3, 100, 0.95, 0.0121, 0.0727),
        (100, 100, 0.95, 0.9737, 1.0),
        (0, 0, 0.95, 0.0, 1.0),
    ],
)
def test_wilson(events: int, trials: int, confidence: float, lower: float, upper: float) -> None:
    found = wilson_bounds(events, trials, confidence=confidence)
    assert found == pytest.approx((lower, upper), abs=5e-5)


@pytest.mark.parametrize(
    ("new", "new_trials", "old", "old_trials", "lower"),
    [
        # Newcombe (1998), table II, method 10, two-sided 95 %.
        (56, 70, 48, 80, 0.0524),
        (9, 10, 3, 10, 0.1705),
        (6, 7, 2, 7, 0.0582),
        (5, 56, 0, 29, -0.0381),
        (0, 10, 0, 20, -0.1611),
        (10, 10, 0, 20, 0.6791),
    ],
)
def test_increase_of_a_rate(
    new: int, new_trials: int, old: int, old_trials: int, lower: float
) -> None:
    found = rate_increase_lower_bound(
        old_events=old,
        old_trials=old_trials,
        new_events=new,
        new_trials=new_trials,
        confidence=0.975,
    )
    assert found == pytest.approx(lower, abs=5e-5)


def test_nothing_is_known_without_trials() -> None:
    bound = rate_increase_lower_bound(
        old_events=0, old_trials=0, new_events=5, new_trials=5, confidence=0.95
    )
    assert bound == -1.0


@pytest.mark.parametrize(
    ("successes", "trials", "probability"),
    [(0, 1, 0.5), (3, 10, 0.3), (17, 20, 0.9), (89, 100, 0.9), (500, 1000, 0.5), (2, 400, 0.01)],
)
def test_binomial(successes: int, trials: int, probability: float) -> None:
    exact = sum(
        comb(trials, k) * probability**k * (1 - probability) ** (trials - k)
        for k in range(successes + 1)
    )
    assert binomial_cdf(successes, trials, probability) == pytest.approx(exact, rel=1e-10)
    assert binomial_cdf(-1, trials, probability) == 0
    assert binomial_cdf(trials, trials, probability) == 1


def test_binomial_of_a_large_sample() -> None:
    """Edgeworth at the mean, n = 10^6, p = 0.9, sigma = 300: half of the density, 0.3989 / 600, and
    the skewness of -0.8 / 300 times 0.3989 / 6.
    """
    expected = 0.5 + 0.398942 / 600 - 0.8 / 300 * 0.398942 / 6
    assert binomial_cdf(900_000, 1_000_000, 0.9) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("samples", "quantile", "confidence", "ranks"),
    [
        # The median of ten at 95 % one-sided: P(B <= 1) = 0.0107, P(B <= 2) = 0.0547.
        (10, 0.5, 0.95, (2, 9)),
        (4, 0.5, 0.95, (None, None)),  # 1 - 0.5**4 = 0.9375 is not enough
        (5, 0.5, 0.95, (1, 5)),  # 1 - 0.5**5 = 0.96875 is
        (28, 0.9, 0.95, (22, None)),  # 0.9**28 = 0.0523: no sample need be beyond the quantile
        (29, 0.9, 0.95, (23, 29)),  # 0.9**29 = 0.0471
        (0, 0.5, 0.95, (None, None)),
    ],
)
def test_ranks(
    samples: int, quantile: float, confidence: float, ranks: tuple[int | None, int | None]
) -> None:
    assert quantile_ranks(samples, quantile=quantile, confidence=confidence) == ranks


def test_buckets() -> None:
    counts = (0, 3, 0, 5, 2)
    assert [bucket_of_rank(counts, rank) for rank in (1, 3, 4, 8, 9, 10)] == [1, 1, 3, 3, 4, 4]
    assert quantile_bucket(counts, 0.5) == 3
    assert quantile_bucket(counts, 0.3) == 1
    assert quantile_bucket((0, 0), 0.5) is None
