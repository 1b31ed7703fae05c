"""A roll-out's `status`: all that is needed to go on after a crash, and what people read.

Invariant: nothing that a decision about weights depends on is anywhere else, measurements excepted,
which are taken anew. `weights` is what the roll-out wrote last or is about to write; while
`replaces` is not empty that write is not known to be in force, and every place has either. Only
control writes a status; a person may delete it, which starts the roll-out over.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError

from inferway.observability.latency_buckets import BUCKETS
from inferway.resources.conditions import Condition, ConditionStatus, merge_conditions
from inferway.resources.meta import Model
from inferway.resources.rollout import RolloutTarget  # noqa: TC001 - pydantic reads annotations
from inferway.resources.scalars import Count, PositiveCount  # noqa: TC001
from inferway.rollout.counts import Counts, Histogram, Mean, Window
from inferway.rollout.weights import Weights

if TYPE_CHECKING:
    from inferway.resources.document import Json

_HISTOGRAM_PATTERN: Final = r"^([0-9]{1,6}:[0-9]{1,12}( |$))*$"
HISTORY_MAX: Final = 50  # entries; the oldest fall out


class Phase(StrEnum):
    PENDING = "Pending"  # nothing written yet
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    ROLLED_BACK = "RolledBack"


class Event(StrEnum):
    STARTED = "Started"
    STEPPED = "Stepped"
    PAUSED = "Paused"
    RESUMED = "Resumed"
    PROMOTED = "Promoted"
    COMPLETED = "Completed"
    ROLLED_BACK = "RolledBack"


class WeightPair(Model):
    """As they are written in the target."""

    old: Count
    new: Count

    @property
    def weights(self) -> Weights:
        return Weights(self.old, self.new)


class HistoryEntry(Model):
    time: AwareDatetime
    event: Event
    attempt: PositiveCount
    weights: WeightPair | None = None  # wanted from then on
    message: str


class ConditionEntry(Model):
    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    observed_generation: int = 1
    last_transition_time: AwareDatetime

    @property
    def condition(self) -> Condition:
        return Condition(
            self.type,
            self.status,
            self.reason,
            self.message,
            self.observed_generation,
            self.last_transition_time,
        )


class Baseline(Model):
    """What the old version did in the steps that are over: the last step sends it nothing, and is
    compared with this. Histograms are `bucket:count` pairs of `observability.latency_buckets`.
    """

    served: Count = 0
    errors: Count = 0
    shed: Count = 0
    ttft: Annotated[str, Field(pattern=_HISTOGRAM_PATTERN)] = ""
    tpot: Annotated[str, Field(pattern=_HISTOGRAM_PATTERN)] = ""
    saturation_total: float = 0.0
    saturation_readings: Count = 0

    @classmethod
    def of(cls, window: Window) -> Self:
        counts, saturation = window.counts, window.saturation
        return cls(
            served=counts.served,
            errors=counts.errors,
            shed=counts.shed,
            ttft=_histogram_text(counts.ttft),
            tpot=_histogram_text(counts.tpot),
            saturation_total=saturation.total,
            saturation_readings=saturation.readings,
        )

    @property
    def window(self) -> Window:
        counts = Counts(
            self.served, self.errors, self.shed, _histogram(self.ttft), _histogram(self.tpot)
        )
        return Window(counts, Mean(self.saturation_total, self.saturation_readings))


def _histogram_text(counts: Histogram) -> str:
    return " ".join(f"{bucket}:{count}" for bucket, count in enumerate(counts) if count)


def _histogram(text: str) -> Histogram:
    counts = [0] * BUCKETS
    for part in text.split():
        bucket, count = part.split(":")
        counts[min(int(bucket), BUCKETS - 1)] += int(count)
    return tuple(counts)


class RolloutStatus(Model):
    phase: Phase = Phase.PENDING
    attempt: PositiveCount = 1
    target_ref: RolloutTarget
    from_: str = Field(alias="from")
    to: str
    step: Count = 0  # from 1; 0: none yet
    since: AwareDatetime | None = None  # when the weights of the step came into force
    weights: WeightPair | None = None
    replaces: tuple[WeightPair, ...] = ()
    baseline: Baseline | None = None
    breached: bool = False  # it rolled back by itself
    message: str = ""
    trouble: str = ""  # why it cannot go on at present
    conditions: tuple[ConditionEntry, ...] = ()
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=HISTORY_MAX)] = ()

    @property
    def is_over(self) -> bool:
        """Whether it has no claim on the weights any more."""
        return self.phase in (Phase.COMPLETED, Phase.ROLLED_BACK) and not self.replaces

    def manifest(self) -> Json:
        """As it stands under `status`; unset fields are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


class UnreadableStatusError(ValueError):
    """A status that control did not write so. The text is for people."""


def read_status(manifest: Json) -> RolloutStatus | None:
    """Of a Rollout as it is written; None when it has none. Raises UnreadableStatusError."""
    value = manifest.get("status") if isinstance(manifest, dict) else None
    if value is None:
        return None
    try:
        return RolloutStatus.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise UnreadableStatusError(
            f"status.{field}: {first['msg']} (hint: remove status to start over)"
        ) from error


def pair(weights: Weights) -> WeightPair:
    return WeightPair(old=weights.old, new=weights.new)


_PROGRESSING: Final[dict[Phase, Literal["True", "False"]]] = {
    Phase.PENDING: "False",
    Phase.PROGRESSING: "True",
    Phase.PAUSED: "False",
    Phase.COMPLETED: "True",  # as a Deployment that is rolled out
    Phase.ROLLED_BACK: "False",
}


def with_conditions(status: RolloutStatus, *, generation: int, now: datetime) -> RolloutStatus:
    """The status with conditions that fit it; transition times of unchanged ones stay."""
    phase, message = status.phase, status.message
    state, reason = ConditionStatus(_PROGRESSING[phase]), phase.value
    if status.trouble:
        state, reason = ConditionStatus.FALSE, "CannotGoOn"
    told = status.trouble or message
    found = [Condition("Progressing", state, reason, told, generation, now)]
    if status.breached:
        found.append(
            Condition("Healthy", ConditionStatus.FALSE, "GateBreached", message, generation, now)
        )
    elif phase is Phase.PENDING:
        found.append(
            Condition("Healthy", ConditionStatus.UNKNOWN, "NotStarted", "", generation, now)
        )
    else:
        found.append(
            Condition("Healthy", ConditionStatus.TRUE, "NoGateBreached", "", generation, now)
        )
    if phase is Phase.COMPLETED:
        found.append(
            Condition("Completed", ConditionStatus.TRUE, "Completed", message, generation, now)
        )
    merged = merge_conditions((entry.condition for entry in status.conditions), found)
    entries = tuple(
        ConditionEntry(
            type=one.type,
            status=one.status,
            reason=one.reason,
            message=one.message,
            observed_generation=one.observed_generation,
            last_transition_time=one.last_transition_time,
        )
        for one in merged
    )
    return status.model_copy(update={"conditions": entries})
