"""Transition times move only when a status flips."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from inferway.resources.conditions import (
    Condition,
    ConditionStatus,
    merge_condition,
    merge_conditions,
)

EARLY = datetime(2025, 1, 1, tzinfo=UTC)
LATE = EARLY + timedelta(hours=1)
ACCEPTED = Condition("Accepted", ConditionStatus.TRUE, "Accepted", "", 1, EARLY)


def test_same_status_keeps_its_time_and_takes_the_new_words() -> None:
    new = Condition("Accepted", ConditionStatus.TRUE, "Other", "because", 2, LATE)
    assert merge_condition(ACCEPTED, new) == replace(new, last_transition_time=EARLY)


def test_a_flip_takes_the_new_time() -> None:
    new = replace(ACCEPTED, status=ConditionStatus.UNKNOWN, last_transition_time=LATE)
    assert merge_condition(ACCEPTED, new) is new
    assert merge_condition(None, new) is new


def test_merging_follows_the_new_list() -> None:
    programmed = Condition("Programmed", ConditionStatus.FALSE, "Invalid", "", 1, LATE)
    gone = replace(ACCEPTED, type="Gone")
    new = [programmed, replace(ACCEPTED, last_transition_time=LATE)]
    assert merge_conditions([gone, ACCEPTED], new) == (programmed, ACCEPTED)


def test_as_it_stands_in_status() -> None:
    east = EARLY.astimezone(timezone(timedelta(hours=2)))
    assert replace(ACCEPTED, last_transition_time=east).manifest() == {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2025-01-01T00:00:00Z",
    }
