"""Rollout: weights that move step by step from an old version to a new one, and what stops them.

`target_ref` names the object whose weights are changed: the backendRefs of an HTTPRoute (new nodes,
a new base model) or the targets of an InferenceModel or InferenceModelRewrite (a new adapter).
`from_` and `to` are the names that carry the weights there. A person may edit every field at any
time, `paused` and `action` are how one intervenes. `status` belongs to control.
"""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from .meta import Model, Object
from .scalars import (
    DURATION_PATTERN,
    PERCENT_PATTERN,
    Between,
    Boolean,
    Count,
    Duration,
    Increase,
    ObjectName,
    Percent,
    PositiveCount,
    duration_s,
)
from .violations import Violation, reject

STEPS_MAX = 100
GATES_MAX = 16

TargetKind = Literal["HTTPRoute", "InferenceModel", "InferenceModelRewrite"]
Metric = Literal["ErrorRate", "ShedRate", "TTFT", "TPOT", "Saturation"]
LATENCIES = ("TTFT", "TPOT")
DURATION: Final = re.compile(DURATION_PATTERN)
PERCENT: Final = re.compile(PERCENT_PATTERN)
DEFAULT_PERCENTILES = {"TTFT": 90, "TPOT": 50}


class RolloutTarget(Model):
    kind: TargetKind = Field(description="what holds the weights; in the namespace of the Rollout")
    name: ObjectName
    rule: Count | None = Field(
        default=None,
        description="index of the rule; unset: every rule that names the old or the new version",
    )


class RolloutStep(Model):
    weight: Annotated[
        int, Between(1, 100), Field(description="share of the new version, in per cent")
    ]
    interval: Duration | None = Field(default=None, description="unset: that of the spec")


class RolloutGate(Model):
    """A limit for one measurement of the new version; `max` or `max_increase` or both."""

    metric: Metric
    percentile: Annotated[int, Between(1, 99)] | None = Field(
        default=None, description="of TTFT (unset: 90) and TPOT (unset: 50)"
    )
    max: Annotated[str, Field(max_length=64)] | None = Field(
        default=None,
        description="absolute limit: a duration for TTFT and TPOT, a share such as 1% otherwise",
    )
    max_increase: Increase | None = Field(
        default=None,
        description="limit against the old version: per cent of its value for TTFT and TPOT, "
        "percentage points otherwise",
    )

    @model_validator(mode="after")
    def _limits_fit_metric(self) -> Self:
        found = []
        if self.max is None and self.max_increase is None:
            hint = "set max, or maxIncrease, or both"
            found.append(Violation("a gate needs a limit", (), hint))
        if self.percentile is not None and self.metric not in LATENCIES:
            found.append(Violation(f"{self.metric} has no percentiles", ("percentile",)))
        if self.max is not None:
            found += _limit_violations(self.metric, self.max)
        reject(found)
        return self

    @property
    def quantile(self) -> float:
        """Of a latency."""
        return (self.percentile or DEFAULT_PERCENTILES.get(self.metric, 50)) / 100


DEFAULT_GATES = (
    RolloutGate(metric="ErrorRate", max_increase="1%"),
    RolloutGate(metric="ShedRate", max_increase="5%"),
    RolloutGate(metric="TTFT", percentile=90, max_increase="50%"),
)


class RolloutSpec(Model):
    target_ref: RolloutTarget
    from_: ObjectName = Field(alias="from", description="old version: a pool or a served model")
    to: ObjectName = Field(description="new version, of the same sort")
    steps: Annotated[
        tuple[RolloutStep, ...],
        Field(min_length=1, max_length=STEPS_MAX, description="growing; the last weight is 100"),
    ]
    interval: Duration = Field(default="5m", description="how long a step lasts at least")
    interval_max: Duration = Field(
        default="30m", description="how long a step may wait for enough samples"
    )
    minimum_samples: PositiveCount = Field(
        default=100, description="per version and gate, before a gate says anything"
    )
    confidence: Percent = Field(
        default="95%",
        description="how sure a gate must be to call a limit exceeded; over all looks of a step",
    )
    gates: Annotated[tuple[RolloutGate, ...], Field(max_length=GATES_MAX)] = Field(
        default=DEFAULT_GATES, description="an empty list: steps pass by time alone"
    )
    on_inconclusive: Literal["Pause", "Continue", "Rollback"] = Field(
        default="Pause", description="when a step is still undecided after intervalMax"
    )
    paused: Boolean = Field(
        default=False, description="control sets it when it stops by itself; false goes on"
    )
    action: Literal["Promote", "Rollback"] | None = Field(
        default=None, description="all traffic to the new, or to the old version, now"
    )
    attempt: PositiveCount = Field(default=1, description="another number starts the roll-out over")

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        found = []
        weights = [step.weight for step in self.steps]
        for index, weight in enumerate(weights[1:], 1):
            if weight <= weights[index - 1]:
                message = f"weights must grow from step to step: {weight}"
                found.append(Violation(message, ("steps", index, "weight")))
        if weights[-1] != 100:
            hint = "add {weight: 100}"
            place = ("steps", len(weights) - 1, "weight")
            found.append(Violation(f"the last weight must be 100: {weights[-1]}", place, hint))
        if self.from_ == self.to:
            found.append(Violation(f"from and to must differ: {self.to}", ("to",)))
        if not 50 <= float(self.confidence.removesuffix("%")) < 100:
            message = f"must be at least 50% and below 100%: {self.confidence}"
            found.append(Violation(message, ("confidence",)))
        longest_s = max(duration_s(step.interval or self.interval) for step in self.steps)
        if duration_s(self.interval_max) < longest_s:
            message = f"must not be shorter than the longest interval: {self.interval_max}"
            found.append(Violation(message, ("intervalMax",)))
        if self.target_ref.kind == "InferenceModel" and self.target_ref.rule is not None:
            found.append(Violation("an InferenceModel has no rules", ("targetRef", "rule")))
        if self.target_ref.kind != "HTTPRoute":
            found += [
                Violation(
                    "both versions share the pool: saturation cannot be compared, only limited",
                    ("gates", index, "maxIncrease"),
                    "use max",
                )
                for index, gate in enumerate(self.gates)
                if gate.metric == "Saturation" and gate.max_increase is not None
            ]
        reject(found)
        return self


class Rollout(Object):
    api_version: Literal["inferway.dev/v1alpha1"] = "inferway.dev/v1alpha1"
    kind: Literal["Rollout"] = "Rollout"
    spec: RolloutSpec


def _limit_violations(metric: str, limit: str) -> list[Violation]:
    """A limit in the unit of its metric."""
    if metric in LATENCIES:
        if DURATION.fullmatch(limit):
            return []
        hint = "a duration such as 800ms or 1s500ms"
        return [Violation(f"must be a duration for {metric}: {limit}", ("max",), hint)]
    if PERCENT.fullmatch(limit):
        return []
    return [Violation(f"must be a share for {metric}: {limit}", ("max",), "such as 1% or 0.5%")]
