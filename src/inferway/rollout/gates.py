"""Whether a gate lets a step pass: measurements, a limit, and how sure one can be.

Problem: a limit that is exceeded by chance must not roll back, one that is really exceeded must,
and looking at growing samples again and again finds "significant" chance sooner or later. Model: a
gate is breached only if a one-sided confidence bound is beyond the limit; whoever looks k times
gives the k-th look the share 1/(k(k+1)) of the permitted error, so that all looks together keep the
stated confidence. A gate passes when the estimate itself is within the limit; in between it is
inconclusive, and with fewer than the minimum of samples it says nothing. Saturation is a mean of
gauge readings, for which no confidence can be stated; it is compared as it is. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from inferway.observability.latency_buckets import lower_edge_s, middle_s, upper_edge_s
from inferway.resources.rollout import LATENCIES
from inferway.resources.scalars import duration_s, percent_ratio
from inferway.rollout.statistics import (
    bucket_of_rank,
    quantile_bucket,
    quantile_ranks,
    rate_increase_lower_bound,
    wilson_bounds,
)

if TYPE_CHECKING:
    from inferway.resources.rollout import RolloutGate
    from inferway.rollout.counts import Histogram, Window

SATURATION_READINGS_MIN: Final = 5


class Outcome(StrEnum):
    PASS = "Pass"  # noqa: S105 - not a password
    BREACH = "Breach"
    INCONCLUSIVE = "Inconclusive"
    TOO_FEW_SAMPLES = "TooFewSamples"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit of one gate. `value`, `old` and `limit` are in seconds or ratios; None: unknown.
    `limit` is what `value` is held against, worked out when it depends on the old version.
    `confidence` is that of this look, None when none can be stated.
    """

    gate: str  # such as "TTFT p90 at most 50% above old"
    outcome: Outcome
    samples: int
    needed: int
    value: float | None = None
    old: float | None = None
    limit: float | None = None
    is_latency: bool = False
    confidence: float | None = None
    bound: float | None = None  # of value, for an absolute limit

    @property
    def text(self) -> str:
        """The gate and its numbers, for people."""
        if self.outcome is Outcome.TOO_FEW_SAMPLES:
            return f"{self.gate}: {self.samples} of {self.needed} samples"
        against = f", old {self._shown(self.old)}" if self.old is not None else ""
        sure = f", {self.confidence * 100:.4g}% sure" if self.confidence is not None else ""
        surely = sure if self.outcome is Outcome.BREACH else ""
        return (
            f"{self.gate}: {self._shown(self.value)}{against}, limit {self._shown(self.limit)}, "
            f"{self.samples} samples{surely}"
        )

    def _shown(self, value: float | None) -> str:
        if value is None:
            return "unknown"
        if not self.is_latency:
            return f"{value * 100:.3g}%"
        return f"{value * 1000:.3g}ms" if value < 1 else f"{value:.3g}s"


def confidence_of_look(confidence: float, look: int) -> float:
    """For the k-th look (from 1): the permitted error is spent as 1/(k(k+1)), which sums to 1."""
    return 1 - (1 - confidence) / (look * (look + 1))


def samples_of(gate: RolloutGate, window: Window) -> int:
    """How much a window knows about what a gate measures."""
    counts = window.counts
    match gate.metric:
        case "ErrorRate":
            return counts.served
        case "ShedRate":
            return counts.asked
        case "TTFT":
            return sum(counts.ttft)
        case "TPOT":
            return sum(counts.tpot)
        case "Saturation":
            return window.saturation.readings


def needed_of(gate: RolloutGate, minimum_samples: int) -> int:
    return SATURATION_READINGS_MIN if gate.metric == "Saturation" else minimum_samples


def judge(
    gate: RolloutGate, *, old: Window, new: Window, minimum_samples: int, confidence: float
) -> tuple[Verdict, ...]:
    """One verdict per limit of the gate; `confidence` is that of this look."""
    found = []
    needed = needed_of(gate, minimum_samples)
    for limit, relative in ((gate.max, False), (gate.max_increase, True)):
        if limit is None:
            continue
        title = _title(gate, limit, relative=relative)
        samples = samples_of(gate, new)
        if relative:
            samples = min(samples, samples_of(gate, old))
        if samples < needed:
            few = Verdict(title, Outcome.TOO_FEW_SAMPLES, samples, needed)
        elif gate.metric == "Saturation":
            few = _saturation(title, limit, old=old if relative else None, new=new)
        elif gate.metric in LATENCIES:
            few = _latency(
                gate, title, limit, old=old if relative else None, new=new, sure=confidence
            )
        else:
            few = _rate(gate, title, limit, old=old if relative else None, new=new, sure=confidence)
        found.append(few)
    return tuple(found)


def _title(gate: RolloutGate, limit: str, *, relative: bool) -> str:
    name: str = gate.metric
    if name in LATENCIES:
        name = f"{name} p{round(gate.quantile * 100)}"
    return f"{name} at most {limit} above old" if relative else f"{name} at most {limit}"


def _rate(
    gate: RolloutGate, title: str, limit: str, *, old: Window | None, new: Window, sure: float
) -> Verdict:
    events, trials = _events(gate, new)
    rate, allowed = events / trials, percent_ratio(limit)
    if old is None:
        bound, _ = wilson_bounds(events, trials, confidence=sure)
        outcome = _outcome(breached=bound > allowed, within=rate <= allowed)
        return Verdict(title, outcome, trials, 0, rate, limit=allowed, confidence=sure, bound=bound)
    old_events, old_trials = _events(gate, old)
    increase = rate_increase_lower_bound(
        old_events=old_events,
        old_trials=old_trials,
        new_events=events,
        new_trials=trials,
        confidence=sure,
    )
    old_rate = old_events / old_trials
    outcome = _outcome(breached=increase > allowed, within=rate - old_rate <= allowed)
    return Verdict(title, outcome, trials, 0, rate, old_rate, old_rate + allowed, confidence=sure)


def _events(gate: RolloutGate, window: Window) -> tuple[int, int]:
    counts = window.counts
    if gate.metric == "ErrorRate":
        return counts.errors, counts.served
    return counts.shed, counts.asked


def _latency(
    gate: RolloutGate, title: str, limit: str, *, old: Window | None, new: Window, sure: float
) -> Verdict:
    """Against the old version both bounds count, so each gets half of the permitted error."""
    counts, quantile = _latencies(gate, new), gate.quantile
    value, samples = _estimate_s(counts, quantile), sum(counts)
    if old is None:
        allowed = duration_s(limit)
        bound = lower_bound_s(counts, quantile=quantile, confidence=sure)
        outcome = _outcome(breached=bound is not None and bound > allowed, within=value <= allowed)
        return Verdict(
            title,
            outcome,
            samples,
            0,
            value,
            limit=allowed,
            is_latency=True,
            confidence=sure,
            bound=bound,
        )
    old_counts = _latencies(gate, old)
    factor = 1 + percent_ratio(limit)
    each = 1 - (1 - sure) / 2
    bound = lower_bound_s(counts, quantile=quantile, confidence=each)
    old_bound = upper_bound_s(old_counts, quantile=quantile, confidence=each)
    breached = bound is not None and old_bound is not None and bound > old_bound * factor
    old_value = _estimate_s(old_counts, quantile)
    outcome = _outcome(breached=breached, within=value <= old_value * factor)
    return Verdict(
        title, outcome, samples, 0, value, old_value, old_value * factor, True, sure, bound
    )


def lower_bound_s(counts: Histogram, *, quantile: float, confidence: float) -> float | None:
    """The quantile is above this, with that confidence; the lower edge of the rank's bucket."""
    rank, _ = quantile_ranks(sum(counts), quantile=quantile, confidence=confidence)
    return None if rank is None else lower_edge_s(bucket_of_rank(counts, rank))


def upper_bound_s(counts: Histogram, *, quantile: float, confidence: float) -> float | None:
    """The quantile is below this, with that confidence; the upper edge of the rank's bucket."""
    _, rank = quantile_ranks(sum(counts), quantile=quantile, confidence=confidence)
    return None if rank is None else upper_edge_s(bucket_of_rank(counts, rank))


def _latencies(gate: RolloutGate, window: Window) -> Histogram:
    return window.counts.ttft if gate.metric == "TTFT" else window.counts.tpot


def _estimate_s(counts: Histogram, quantile: float) -> float:
    """0 without samples, which the minimum of samples excludes."""
    bucket = quantile_bucket(counts, quantile)
    return 0.0 if bucket is None else middle_s(bucket)


def _saturation(title: str, limit: str, *, old: Window | None, new: Window) -> Verdict:
    value = new.saturation.value or 0.0
    before = old.saturation.value or 0.0 if old is not None else None
    allowed = (before or 0.0) + percent_ratio(limit)
    outcome = Outcome.PASS if value <= allowed else Outcome.BREACH
    return Verdict(title, outcome, new.saturation.readings, 0, value, before, allowed)


def _outcome(*, breached: bool, within: bool) -> Outcome:
    if breached:
        return Outcome.BREACH
    return Outcome.PASS if within else Outcome.INCONCLUSIVE
