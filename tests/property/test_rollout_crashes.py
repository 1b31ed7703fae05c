"""Control dies before any write, any number of times, and a roll-out ends as if it had not.

Also with edits by people at any moment: what a person sets stays until the roll-out is told to go
on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.rollout.status import Phase, read_status
from inferway.rollout.weights import Weights
from tests.unit.rollout.conftest import ROLLOUT, World, new_world

if TYPE_CHECKING:
    from inferway.resources.text_edit import ObjectName

STEPS = [Weights(100, 0), Weights(90, 10), Weights(50, 50), Weights(0, 100)]
TICKS = 120


class CrashError(Exception):
    pass


def run_with_crashes(world: World, crashes: list[int], *, ticks: int = TICKS) -> int:
    """Dies instead of making the n-th write, for each n; the number of writes tried."""
    tried = 0

    def before_write(_name: ObjectName) -> None:
        nonlocal tried
        tried += 1
        if tried in crashes:
            raise CrashError

    world.store.before_write = before_write
    for _ in range(ticks):
        try:
            world.turn()
        except CrashError:
            world.restart()
        world.pass_time(1)
    return tried


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 25), max_size=12), st.booleans())
def test_crashes_change_nothing_but_time(crashes: list[int], faulty: bool) -> None:
    world = new_world()
    world.error_ratio = 0.3 if faulty else 0.0
    run_with_crashes(world, crashes)
    seen = [
        one for index, one in enumerate(world.seen) if one != world.seen[index - 1] or not index
    ]
    if faulty:
        assert world.status.phase is Phase.ROLLED_BACK
        assert world.weights == Weights(100, 0)
        assert set(seen) <= {Weights(100, 0), Weights(90, 10)}
        assert world.events == ["Started", "RolledBack"]
    else:
        assert world.status.phase is Phase.COMPLETED
        assert seen in (STEPS, STEPS[1:]), "never a step too many, never back"
        assert world.events == ["Started", "Stepped", "Stepped", "Completed"], "nothing told twice"
    assert world.status.replaces == ()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 25), max_size=6),
    st.integers(0, 60),
    st.integers(1, 99).filter(lambda share: share not in (10, 50)),
)
def test_a_persons_edit_survives_crashes(crashes: list[int], moment: int, share: int) -> None:
    world = new_world()
    run_with_crashes(world, crashes, ticks=moment)
    status = read_status(world.store.manifests[ROLLOUT])
    over = status is not None and status.is_over
    started = status is not None and status.phase is not Phase.PENDING
    world.set_weights(100 - share, share)
    run_with_crashes(world, crashes, ticks=TICKS)
    if started:
        assert world.weights == Weights(100 - share, share)
        assert over or world.status.phase in (Phase.PAUSED, Phase.COMPLETED)
    else:
        assert world.weights.new >= share
