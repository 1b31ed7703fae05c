"""Status conditions as the Kubernetes API defines them.

Problem: status is rewritten at every change, but `lastTransitionTime` must tell when a condition
last flipped, not when it was last computed. Model: routing computes the conditions that hold now;
`merge_conditions` carries the old times over. Pure: the time is passed in.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """`observed_generation`: the metadata.generation of the object that this was computed from."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    observed_generation: int = 1
    last_transition_time: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def manifest(self) -> dict[str, object]:
        """As it stands in `status.conditions`."""
        moment = self.last_transition_time.astimezone(UTC)
        return {
            "type": self.type,
            "status": self.status.value,
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": self.observed_generation,
            "lastTransitionTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def merge_condition(old: Condition | None, new: Condition) -> Condition:
    """`new`, with the old transition time when the status did not change."""
    if old is not None and old.type == new.type and old.status == new.status:
        return replace(new, last_transition_time=old.last_transition_time)
    return new


def merge_conditions(old: Iterable[Condition], new: Iterable[Condition]) -> tuple[Condition, ...]:
    """`new` in its own order, each merged with the old condition of its type; types that are gone
    are dropped.
    """
    by_type = {condition.type: condition for condition in old}
    return tuple(merge_condition(by_type.get(condition.type), condition) for condition in new)
