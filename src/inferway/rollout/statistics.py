"""Confidence bounds: what a sample proves about a rate or a percentile, and what it does not.

Problem: ten requests with one failure say little, and a gate that acts on the bare average rolls
back good versions and keeps bad ones. Model: one-sided bounds. `confidence` is the probability
with which the true value is on the safe side of the bound; a comparison with a limit uses the bound
that makes the accusation hard to raise. Rates: Wilson's score interval and, for differences,
Newcombe's combination of two of them. Percentiles: order statistics, which need no assumption about
the distribution; the rank comes from the exact binomial distribution. Pure functions.

Sources: E. B. Wilson, JASA 22 (1927) 209; R. G. Newcombe, Statistics in Medicine 17 (1998) 873,
method 10; H. A. David, H. N. Nagaraja, Order Statistics, 3rd ed. (2003), section 7.1.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_NORMAL: Final = NormalDist()
_FRACTION_STEPS_MAX: Final = 500
_TINY: Final = 1e-300


def wilson_bounds(events: int, trials: int, *, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of a rate, each one-sided at `confidence`. Without trials: 0 and 1."""
    if trials <= 0:
        return 0.0, 1.0
    z = _NORMAL.inv_cdf(confidence)
    rate = events / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # At the ends the two terms are equal; rounding must not leave the range.
    lower = 0.0 if events == 0 else max((centre - spread) / scale, 0.0)
    upper = 1.0 if events == trials else min((centre + spread) / scale, 1.0)
    return lower, upper


def rate_increase_lower_bound(
    *, old_events: int, old_trials: int, new_events: int, new_trials: int, confidence: float
) -> float:
    """Newcombe's lower bound of (new rate - old rate). Without trials of either: -1."""
    if old_trials <= 0 or new_trials <= 0:
        return -1.0
    old_rate, new_rate = old_events / old_trials, new_events / new_trials
    new_lower, _ = wilson_bounds(new_events, new_trials, confidence=confidence)
    _, old_upper = wilson_bounds(old_events, old_trials, confidence=confidence)
    return new_rate - old_rate - math.hypot(new_rate - new_lower, old_upper - old_rate)


def quantile_ranks(
    samples: int, *, quantile: float, confidence: float
) -> tuple[int | None, int | None]:
    """Ranks (from 1) of the order statistics that bound a quantile from below and from above, each
    one-sided at `confidence`; None where the sample is too small for any bound.

    The r-th smallest sample is at most the quantile with the probability that at least r samples
    are below it: P(B >= r), B binomial in (samples, quantile).
    """
    if samples <= 0:
        return None, None
    # P(B >= r) falls with r: the last r with at least `confidence`. P(B <= s-1) grows with s.
    lower = bisect_left(
        range(1, samples + 1),
        True,
        key=lambda r: 1 - binomial_cdf(r - 1, samples, quantile) < confidence,
    )
    upper = bisect_left(
        range(1, samples + 1),
        True,
        key=lambda s: binomial_cdf(s - 1, samples, quantile) >= confidence,
    )
    return lower or None, upper + 1 if upper < samples else None


def binomial_cdf(successes: int, trials: int, probability: float) -> float:
    """P(B <= successes), B binomial; the regularised incomplete beta function."""
    if successes < 0:
        return 0.0
    if successes >= trials:
        return 1.0
    return _incomplete_beta(trials - successes, successes + 1, 1 - probability)


def quantile_bucket(counts: Sequence[int], quantile: float) -> int | None:
    """Index of the bucket that holds the sample quantile; None without samples."""
    samples = sum(counts)
    return bucket_of_rank(counts, max(1, math.ceil(quantile * samples))) if samples else None


def bucket_of_rank(counts: Sequence[int], rank: int) -> int:
    """Index of the bucket that holds the sample of that rank (from 1)."""
    return bisect_left(list(accumulate(counts)), rank)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by its continued fraction, on the side where that converges fast."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    front = math.exp(log_front)
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Lentz's evaluation of the fraction; the number of steps grows as the root of a + b."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    steps = _FRACTION_STEPS_MAX + int(10 * math.sqrt(a + b))
    for m in range(1, steps):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _not_zero(1 + even * d)
        c = _not_zero(1 + even / c)
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / _not_zero(1 + odd * d)
        c = _not_zero(1 + odd / c)
        factor = d * c
        value *= factor
        if abs(factor - 1) < 1e-14:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
