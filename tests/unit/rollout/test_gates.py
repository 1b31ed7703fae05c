"""Gates over windows with worked numbers."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.observability.latency_buckets import (
    BUCKETS,
    bucket_of,
    lower_edge_s,
    middle_s,
    upper_edge_s,
)
from inferway.resources.rollout import RolloutGate
from inferway.rollout.counts import NOTHING, Counts, Mean, Reading, Window
from inferway.rollout.gates import Outcome, Verdict, confidence_of_look, judge


def window(**fields: Any) -> Window:
    saturation = fields.pop("saturation", Mean())
    return Window(Counts(**fields), saturation)


def latencies(*groups: tuple[int, float]) -> tuple[int, ...]:
    """Counts of (samples, seconds)."""
    counts = [0] * BUCKETS
    for samples, seconds in groups:
        counts[bucket_of(seconds)] += samples
    return tuple(counts)


def verdict(gate: dict[str, Any], *, old: Window, new: Window, confidence: float = 0.95) -> Verdict:
    (found,) = judge(
        RolloutGate.model_validate(gate),
        old=old,
        new=new,
        minimum_samples=50,
        confidence=confidence,
    )
    return found


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        (1, Outcome.PASS),  # 1 % is the limit
        (2, Outcome.INCONCLUSIVE),  # 2 %, at least 0.7 % (Wilson, z = 1.645)
        (3, Outcome.BREACH),  # 3 %, at least 1.2 %
    ],
)
def test_absolute_error_rate(errors: int, outcome: Outcome) -> None:
    gate = {"metric": "ErrorRate", "max": "1%"}
    found = verdict(gate, old=window(), new=window(served=100, errors=errors))
    assert found.outcome is outcome
    assert found.text.startswith(f"ErrorRate at most 1%: {errors}%, limit 1%, 100 samples")
    assert ("95% sure" in found.text) == (outcome is Outcome.BREACH)


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        # Newcombe's first example: the increase is at least 5.24 % at 97.5 %.
        ((48, 80), (56, 70), Outcome.BREACH),
        ((48, 80), (50, 80), Outcome.PASS),  # 2.5 % more
        ((48, 80), (54, 80), Outcome.INCONCLUSIVE),  # 7.5 % more, by chance perhaps
    ],
)
def test_error_rate_against_the_old_version(
    old: tuple[int, int], new: tuple[int, int], outcome: Outcome
) -> None:
    found = verdict(
        {"metric": "ErrorRate", "maxIncrease": "5%"},
        old=window(errors=old[0], served=old[1]),
        new=window(errors=new[0], served=new[1]),
        confidence=0.975,
    )
    assert found.outcome is outcome
    assert "old 60%, limit 65%" in found.text


def test_shed_requests_are_no_errors() -> None:
    new = window(served=100, errors=0, shed=100)
    assert verdict({"metric": "ErrorRate", "max": "1%"}, old=new, new=new).outcome is Outcome.PASS
    shed = verdict({"metric": "ShedRate", "max": "10%"}, old=new, new=new)
    assert (shed.outcome, shed.value, shed.samples) == (Outcome.BREACH, 0.5, 200)


def test_latency_against_a_limit() -> None:
    gate = {"metric": "TTFT", "percentile": 90, "max": "500ms"}
    fast = window(ttft=latencies((95, 0.2), (5, 2.0)))
    slow = window(ttft=latencies((80, 0.2), (20, 2.0)))
    unsure = window(ttft=latencies((88, 0.2), (12, 2.0)))
    assert verdict(gate, old=window(), new=fast).outcome is Outcome.PASS
    # 20 of 100 beyond: P(B >= 81), B in (100, 0.9), is above 0.95, so p90 is not below rank 81.
    assert verdict(gate, old=window(), new=slow).outcome is Outcome.BREACH
    assert verdict(gate, old=window(), new=unsure).outcome is Outcome.INCONCLUSIVE
    assert verdict(gate, old=window(), new=slow).text.startswith("TTFT p90 at most 500ms: 2.")


def test_latency_against_the_old_version() -> None:
    gate = {"metric": "TPOT", "maxIncrease": "20%"}
    old = window(tpot=latencies((500, 0.020)))
    same = window(tpot=latencies((500, 0.020)))
    half_more = window(tpot=latencies((500, 0.030)))
    little_more = window(tpot=latencies((500, 0.0251)))
    assert verdict(gate, old=old, new=same).outcome is Outcome.PASS
    assert verdict(gate, old=old, new=half_more).outcome is Outcome.BREACH
    # 25.5 % more, but the buckets of 5 % cannot tell it from 20 %.
    assert verdict(gate, old=old, new=little_more).outcome is Outcome.INCONCLUSIVE


def test_too_few_samples_of_either_version() -> None:
    gate = {"metric": "TTFT", "maxIncrease": "20%"}
    much, little = window(ttft=latencies((500, 0.1))), window(ttft=latencies((49, 9.0)))
    for old, new in ((much, little), (little, much)):
        found = verdict(gate, old=old, new=new)
        assert found.outcome is Outcome.TOO_FEW_SAMPLES
        assert found.text == "TTFT p90 at most 20% above old: 49 of 50 samples"


def test_saturation_is_compared_as_it_is() -> None:
    old, new = window(saturation=Mean(3.0, 10)), window(saturation=Mean(9.0, 10))
    gate = {"metric": "Saturation", "max": "80%", "maxIncrease": "70%"}
    found = judge(
        RolloutGate.model_validate(gate), old=old, new=new, minimum_samples=50, confidence=0.95
    )
    assert [one.outcome for one in found] == [Outcome.BREACH, Outcome.PASS]
    assert found[0].confidence is None
    few = judge(
        RolloutGate.model_validate(gate),
        old=old,
        new=window(saturation=Mean(9.0, 4)),
        minimum_samples=50,
        confidence=0.95,
    )
    assert few[0].outcome is Outcome.TOO_FEW_SAMPLES


def test_all_looks_together_keep_the_confidence() -> None:
    assert confidence_of_look(0.95, 1) == pytest.approx(0.975)
    assert confidence_of_look(0.95, 2) == pytest.approx(1 - 0.05 / 6)
    spent = sum(1 - confidence_of_look(0.95, look) for look in range(1, 10_000))
    assert 0.0499 < spent < 0.05


def test_windows_grow_by_differences_and_survive_a_restart_of_the_picker() -> None:
    start = Window().grown(Reading(Counts(served=100, errors=7), 0.5))
    assert start.counts == NOTHING
    assert start.saturation == Mean(0.5, 1)
    grown = start.grown(Reading(Counts(served=110, errors=8)))
    assert (grown.counts.served, grown.counts.errors) == (10, 1)
    restarted = grown.grown(Reading(Counts(served=3, errors=0)))
    assert (restarted.counts.served, restarted.counts.errors) == (13, 1)


def test_buckets_of_latencies() -> None:
    for seconds in (1e-6, 1e-4, 0.00123, 0.1, 1.0, 59.0, 999.0, 1e9):
        index = bucket_of(seconds)
        assert lower_edge_s(index) <= seconds * (1 + 1e-9)
        assert seconds <= upper_edge_s(index) * (1 + 1e-9) or index == 0
    assert upper_edge_s(BUCKETS - 1) == float("inf")
    assert upper_edge_s(40) / lower_edge_s(40) == pytest.approx(1.047, abs=1e-3)
    assert lower_edge_s(40) < middle_s(40) < upper_edge_s(40)
