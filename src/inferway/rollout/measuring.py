"""What a step has measured so far, and what follows from it.

Problem: whether a step may end depends on samples that come at their own pace, and each look at
them costs confidence. Model: `Measurement` holds windows of both versions since the weights of the
step came into force. A gate is looked at when the new version has the minimum of samples, then
whenever they have doubled, at the end of the interval and at the longest end. The old version is
compared over the same time; where that has too few samples (the last step sends it none), over the
time since the roll-out began. Measurements of a step are in memory only: after a restart they begin
anew, which makes a step longer, never shorter. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime  # noqa: TC003 - of dataclass fields
from enum import StrEnum
from typing import TYPE_CHECKING

from inferway.resources.scalars import duration_s, percent_ratio
from inferway.rollout.counts import EMPTY, Reading, Window
from inferway.rollout.gates import (
    Outcome,
    Verdict,
    confidence_of_look,
    judge,
    needed_of,
    samples_of,
)

if TYPE_CHECKING:
    from inferway.resources.rollout import RolloutGate, RolloutSpec


class Result(StrEnum):
    WAIT = "wait"
    PASS = "pass"  # noqa: S105 - not a password
    BREACH = "breach"
    EXHAUSTED = "exhausted"  # the step may not wait any longer and is still undecided


@dataclass(frozen=True, slots=True)
class Measurement:
    """Of one step of one attempt. `looks` counts per gate, `timed_looks` those that were due by the
    clock. `began`: when this process began to measure the step.
    """

    attempt: int
    step: int
    began: datetime
    baseline: Window = EMPTY  # old version since this process knows the roll-out
    old: Window = EMPTY
    new: Window = EMPTY
    looks: tuple[int, ...] = ()
    timed_looks: int = 0
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    result: Result
    message: str
    measurement: Measurement


def measured(
    before: Measurement | None,
    *,
    attempt: int,
    step: int,
    now: datetime,
    old: Reading | None,
    new: Reading | None,
    baseline: Window = EMPTY,
) -> Measurement:
    """The measurement with the newest readings (None: there is none); a new one when the step is
    another. `baseline`: of the old version, as it was stored; used after a restart.
    """
    if before is None or before.attempt != attempt:
        before = Measurement(attempt, step, now, baseline)
    elif before.step != step:
        before = replace(
            before,
            step=step,
            began=now,
            old=EMPTY,
            new=EMPTY,
            looks=(),
            timed_looks=0,
            verdicts=(),
        )
    if old is not None:
        before = replace(before, baseline=before.baseline.grown(old), old=before.old.grown(old))
    return before if new is None else replace(before, new=before.new.grown(new))


def judged(
    measurement: Measurement, spec: RolloutSpec, *, since: datetime, now: datetime
) -> Judgement:
    """Looks at the gates that are due. `since`: when the weights of the step came into force."""
    step = spec.steps[measurement.step - 1]
    interval_s, longest_s = (
        duration_s(step.interval or spec.interval),
        duration_s(spec.interval_max),
    )
    elapsed_s = (now - since).total_seconds()
    timed = (elapsed_s >= interval_s) + (
        (now - max(since, measurement.began)).total_seconds() >= longest_s
    )
    by_clock = timed > measurement.timed_looks
    looks: list[int] = []
    verdicts: list[Verdict] = []
    for index, gate in enumerate(spec.gates):
        done = measurement.looks[index] if index < len(measurement.looks) else 0
        found, is_look = _looked(gate, measurement, spec, done, by_clock=by_clock)
        looks.append(done + is_look)
        verdicts += found
    after = replace(measurement, looks=tuple(looks), timed_looks=timed, verdicts=tuple(verdicts))
    return _judgement(after, interval_s=interval_s, elapsed_s=elapsed_s, timed=timed)


def _looked(
    gate: RolloutGate, measurement: Measurement, spec: RolloutSpec, done: int, *, by_clock: bool
) -> tuple[tuple[Verdict, ...], bool]:
    """The verdicts, and whether this counts as a look: only a look can find a breach."""
    needed = needed_of(gate, spec.minimum_samples)
    enough = samples_of(gate, measurement.old) >= needed
    old = measurement.old if enough else measurement.baseline
    samples = samples_of(gate, measurement.new)
    due = by_clock if gate.metric == "Saturation" else by_clock or samples >= needed * 2**done
    sure = confidence_of_look(percent_ratio(spec.confidence), done + 1)
    found = judge(
        gate,
        old=old,
        new=measurement.new,
        minimum_samples=spec.minimum_samples,
        confidence=sure,
    )
    if due and any(one.outcome is not Outcome.TOO_FEW_SAMPLES for one in found):
        return found, True
    return tuple(
        replace(one, outcome=Outcome.INCONCLUSIVE) if one.outcome is Outcome.BREACH else one
        for one in found
    ), False


def _judgement(
    measurement: Measurement, *, interval_s: float, elapsed_s: float, timed: int
) -> Judgement:
    breaches = [one for one in measurement.verdicts if one.outcome is Outcome.BREACH]
    if breaches:
        text = "; ".join(one.text for one in breaches)
        return Judgement(Result.BREACH, f"gate breached: {text}", measurement)
    if elapsed_s < interval_s:
        return Judgement(Result.WAIT, "", measurement)
    undecided = [one for one in measurement.verdicts if one.outcome is not Outcome.PASS]
    if not undecided:
        return Judgement(Result.PASS, "every gate passed", measurement)
    text = "; ".join(
        one.text if one.outcome is Outcome.TOO_FEW_SAMPLES else f"not sure enough: {one.text}"
        for one in undecided
    )
    result = Result.EXHAUSTED if timed > 1 else Result.WAIT
    return Judgement(result, f"undecided: {text}", measurement)
