"""Bounds that gates rest on, against exact sums and against chance."""

from __future__ import annotations

import random
from math import comb

from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.observability.latency_buckets import BUCKETS, bucket_of
from inferway.rollout.gates import confidence_of_look, lower_bound_s, upper_bound_s
from inferway.rollout.statistics import (
    quantile_ranks,
    rate_increase_lower_bound,
    wilson_bounds,
)

CONFIDENCES = st.sampled_from((0.8, 0.95, 0.975, 0.999))


def at_least(rank: int, trials: int, probability: float) -> float:
    """P(B >= rank), summed exactly."""
    return sum(
        comb(trials, k) * probability**k * (1 - probability) ** (trials - k)
        for k in range(rank, trials + 1)
    )


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 99), CONFIDENCES)
def test_ranks_are_the_tightest_that_keep_the_confidence(
    samples: int, percentile: int, confidence: float
) -> None:
    quantile, slack = percentile / 100, 1e-9
    lower, upper = quantile_ranks(samples, quantile=quantile, confidence=confidence)
    if lower is not None:
        assert at_least(lower, samples, quantile) >= confidence - slack
    assert at_least((lower or 0) + 1, samples, quantile) < confidence + slack
    if upper is not None:
        assert 1 - at_least(upper, samples, quantile) >= confidence - slack
    beneath = (upper or samples + 1) - 1
    assert 1 - at_least(beneath, samples, quantile) < confidence + slack or upper == 1


@given(st.integers(0, 500), st.integers(1, 500), CONFIDENCES)
def test_wilson_holds_the_estimate_and_narrows(events: int, more: int, confidence: float) -> None:
    trials = events + more
    lower, upper = wilson_bounds(events, trials, confidence=confidence)
    assert 0 <= lower <= events / trials <= upper <= 1
    closer = wilson_bounds(10 * events, 10 * trials, confidence=confidence)
    assert lower <= closer[0]
    assert closer[1] <= upper


@given(st.integers(0, 200), st.integers(1, 200), st.integers(0, 200), st.integers(1, 200))
def test_an_increase_is_never_claimed_beyond_what_was_seen(
    old: int, old_more: int, new: int, new_more: int
) -> None:
    old_trials, new_trials = old + old_more, new + new_more
    bound = rate_increase_lower_bound(
        old_events=old,
        old_trials=old_trials,
        new_events=new,
        new_trials=new_trials,
        confidence=0.95,
    )
    assert -1 <= bound <= new / new_trials - old / old_trials


def test_percentiles_of_known_distributions_are_within_their_bounds() -> None:
    """2,000 samples of 200 exponential latencies: each bound may miss p90 in 5 % of them, and the
    width of a bucket makes it miss less often.
    """
    draw, true_p90 = random.Random(3), 0.1 * 2.302585
    missed_below = missed_above = 0
    for _ in range(2000):
        counts = [0] * BUCKETS
        for _ in range(200):
            counts[bucket_of(draw.expovariate(10))] += 1
        below = lower_bound_s(tuple(counts), quantile=0.9, confidence=0.95)
        above = upper_bound_s(tuple(counts), quantile=0.9, confidence=0.95)
        assert below is not None
        assert above is not None
        missed_below += below > true_p90
        missed_above += above < true_p90
    assert missed_below < 0.05 * 2000
    assert missed_above < 0.05 * 2000
    assert missed_below + missed_above > 0, "bounds that never miss are too wide to be of use"


def test_false_alarms_stay_within_the_stated_confidence() -> None:
    """4,000 steps of a version exactly at its limit, five looks each: fewer than 5 % are called."""
    draw = random.Random(1)
    alarms = 0
    for _ in range(4000):
        events = trials = 0
        for look in range(1, 6):
            more = 100 * 2 ** (look - 1) - trials
            events += sum(draw.random() < 0.05 for _ in range(more))
            trials += more
            lower, _ = wilson_bounds(events, trials, confidence=confidence_of_look(0.95, look))
            if lower > 0.05:
                alarms += 1
                break
    assert alarms < 0.05 * 4000
