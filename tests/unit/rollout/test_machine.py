"""Roll-outs in virtual time, over manifests in memory."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from inferway.resources.edits import ChangedMeanwhileError, EditError
from inferway.rollout.status import Phase, UnreadableStatusError
from inferway.rollout.weights import Weights

from .conftest import ROLLOUT, ROUTE, World, new_world

if TYPE_CHECKING:
    from inferway.resources.text_edit import ObjectName

STEPS = [Weights(90, 10), Weights(50, 50), Weights(0, 100)]


def condition(world: World, kind: str) -> tuple[str, str]:
    return next(
        (one.status.value, one.reason) for one in world.status.conditions if one.type == kind
    )


def test_step_by_step_to_the_end(world: World) -> None:
    world.run(60)
    assert world.seen == STEPS
    assert world.status.phase is Phase.COMPLETED
    assert world.events == ["Started", "Stepped", "Stepped", "Completed"]
    assert condition(world, "Completed") == ("True", "Completed")
    assert condition(world, "Progressing") == ("True", "Completed")
    assert condition(world, "Healthy") == ("True", "NoGateBreached")
    times = [entry.time for entry in world.status.history]
    spans = [(b - a).total_seconds() for a, b in pairwise(times)]
    assert spans == [11, 11, 11]  # a turn to see the weights in force, then ten seconds


def test_nothing_is_written_when_nothing_changes(world: World) -> None:
    world.run(60)
    writes = len(world.store.writes)
    assert writes == 3 + 2 * 3 + 1  # weights; announced and in force; completed
    world.run(60)
    assert len(world.store.writes) == writes


def test_a_breach_rolls_back_at_once_and_says_why(world: World) -> None:
    world.run(14)
    assert world.weights == Weights(50, 50)
    world.error_ratio = 0.1
    world.run(4)
    assert world.weights == Weights(100, 0)
    status = world.status
    assert (status.phase, status.breached) == (Phase.ROLLED_BACK, True)
    assert "ErrorRate at most 1% above old: 7.5%, old 0%, limit 1%, 200 samples" in status.message
    assert "99.58% sure" in status.message
    assert condition(world, "Healthy") == ("False", "GateBreached")
    assert condition(world, "Progressing") == ("False", "RolledBack")
    world.error_ratio = 0
    world.run(60)
    assert world.weights == Weights(100, 0), "it stays rolled back"


def test_a_new_attempt_after_a_roll_back(world: World) -> None:
    world.error_ratio = 0.5
    world.run(30)
    assert world.status.phase is Phase.ROLLED_BACK
    world.error_ratio = 0
    world.spec(attempt=2)
    world.run(60)
    assert world.status.phase is Phase.COMPLETED
    assert world.events[:3] == ["Started", "RolledBack", "Started"]
    assert condition(world, "Healthy") == ("True", "NoGateBreached")


def test_few_samples_extend_a_step_then_it_pauses_and_says_why(world: World) -> None:
    world.requests_per_tick = 5  # one in two ticks for the new version, rounded to 0
    world.run(40)
    assert world.status.phase is Phase.PROGRESSING
    world.run(40)
    assert world.status.phase is Phase.PAUSED
    assert "0 of 50 samples" in world.status.message
    assert world.weights == Weights(90, 10), "the weights stay"
    rollout = world.store.manifests[ROLLOUT]
    assert isinstance(rollout, dict)
    assert isinstance(rollout["spec"], dict)
    assert rollout["spec"]["paused"] is True


@pytest.mark.parametrize(
    ("what", "end"), [("Continue", Phase.COMPLETED), ("Rollback", Phase.ROLLED_BACK)]
)
def test_undecided_steps_end_as_configured(what: str, end: Phase) -> None:
    world = new_world(onInconclusive=what)
    world.requests_per_tick = 0
    world.run(250)
    assert world.status.phase is end


def test_an_extended_step_goes_on_when_there_are_samples(world: World) -> None:
    world.requests_per_tick = 0
    world.run(30)
    world.requests_per_tick = 600
    world.run(3)
    assert world.weights == Weights(50, 50)


def test_without_gates_time_alone_decides() -> None:
    world = new_world(gates=[])
    world.requests_per_tick = 0
    world.run(60)
    assert world.status.phase is Phase.COMPLETED


def test_pause_and_resume(world: World) -> None:
    world.run(5)
    world.spec(paused=True)
    world.run(100)
    assert (world.status.phase, world.weights) == (Phase.PAUSED, Weights(90, 10))
    world.spec(paused=False)
    world.run(8)
    assert world.weights == Weights(90, 10), "the step begins anew"
    world.run(60)
    assert world.status.phase is Phase.COMPLETED
    assert world.events[:3] == ["Started", "Paused", "Resumed"]


def test_a_persons_edit_wins_and_pauses(world: World) -> None:
    world.run(5)
    world.set_weights(60, 40)
    world.run(100)
    assert world.weights == Weights(60, 40)
    assert world.status.phase is Phase.PAUSED
    assert "somebody else set the weights to 60/40; the roll-out had set 90/10" in (
        world.status.message
    )
    world.spec(paused=False)
    world.run(2)
    assert world.weights == Weights(50, 50), "it goes on with the next step that is not behind"


def test_an_edit_while_the_write_is_not_in_force_wins_too(world: World) -> None:
    world.in_force = False
    world.run(3)
    assert world.weights == Weights(90, 10)
    world.set_weights(70, 30)
    world.run(3)
    assert (world.status.phase, world.weights) == (Phase.PAUSED, Weights(70, 30))


def test_a_step_begins_when_the_traffic_follows(world: World) -> None:
    world.in_force = False
    world.run(100)
    plan = world.tick()
    assert plan
    assert "the gateway does not follow yet" in plan.progress
    assert (world.status.since, world.weights) == (None, Weights(90, 10))
    world.in_force = True
    world.run(9)
    assert world.weights == Weights(90, 10)
    world.run(5)
    assert world.weights == Weights(50, 50)


def test_promote_and_roll_back_on_request(world: World) -> None:
    world.run(5)
    world.spec(action="Promote")
    world.run(2)
    assert (world.status.phase, world.weights) == (Phase.COMPLETED, Weights(0, 100))
    world.spec(action="Rollback")
    world.run(2)
    assert (world.status.phase, world.weights) == (Phase.ROLLED_BACK, Weights(100, 0))
    assert not world.status.breached
    world.run(50)
    assert world.weights == Weights(100, 0)


def test_actions_do_not_wait_for_a_pause_to_end(world: World) -> None:
    world.run(3)
    world.spec(paused=True)
    world.run(3)
    world.spec(action="Rollback")
    world.run(3)
    assert (world.status.phase, world.weights) == (Phase.ROLLED_BACK, Weights(100, 0))


def test_it_never_starts_behind_the_present_weights(world: World) -> None:
    world.set_weights(70, 30)
    world.run(2)
    assert world.weights == Weights(50, 50)


def test_steps_may_be_changed_on_the_way(world: World) -> None:
    world.run(5)
    world.spec(steps=[{"weight": 20}, {"weight": 100}])
    world.run(2)
    assert world.weights == Weights(80, 20)


def test_a_missing_target_is_told_and_waited_for(world: World) -> None:
    route = world.store.manifests.pop(ROUTE)
    world.turn()
    assert world.status.trouble == "HTTPRoute default/route does not exist"
    assert condition(world, "Progressing") == ("False", "CannotGoOn")
    world.store.manifests[ROUTE] = route
    world.run(60)
    assert world.status.phase is Phase.COMPLETED
    assert world.status.trouble == ""


def test_the_second_roll_out_of_the_same_weights_waits(world: World) -> None:
    world.conflict = "Rollout default/first"
    world.run(20)
    assert world.weights == Weights(100, 0)
    assert "moved by Rollout default/first" in world.status.trouble
    world.conflict = ""
    world.run(2)
    assert world.weights == Weights(90, 10)


def test_the_last_step_is_compared_with_the_old_version_as_it_was(world: World) -> None:
    """It gets no requests any more; what it did before still counts."""
    world.run(25)
    assert world.weights == Weights(0, 100)
    world.error_ratio = 0.2
    world.run(6)
    assert (world.status.phase, world.weights) == (Phase.ROLLED_BACK, Weights(100, 0))


def test_a_lost_race_changes_nothing(world: World) -> None:
    def somebody_else(name: ObjectName) -> None:
        world.store.before_write = lambda _name: None
        world.edit(name, ("metadata", "annotations"), {"a": "b"})

    world.store.before_write = somebody_else
    with pytest.raises(ChangedMeanwhileError):
        world.turn()
    assert world.weights == Weights(100, 0)
    world.run(2)
    assert world.weights == Weights(90, 10)


def test_a_status_that_control_did_not_write_stops_everything(world: World) -> None:
    world.edit(ROLLOUT, ("status",), {"phase": "Nonsense"})
    with pytest.raises(UnreadableStatusError, match="remove status to start over"):
        world.turn()
    world.edit(ROLLOUT, ("spec", "from"), 3)
    with pytest.raises(EditError, match="not valid at present"):
        world.turn()
    del world.store.manifests[ROLLOUT]
    assert world.turn() is None
