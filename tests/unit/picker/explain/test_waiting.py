"""What is remembered of requests that waited for their turn."""

from __future__ import annotations

import numpy as np

from inferway.picker.explain import CLIENT_LEFT, Recorded
from inferway.picker.flowcontrol.config import (
    BandConfig,
    ConcurrencyConfig,
    FlowConfig,
    SheddingConfig,
)
from inferway.picker.flowcontrol.pool_flow import NO_ROOM
from inferway.picker.outcome import Outcome
from inferway.picker.protocol.filter_side import done, first, pick
from inferway.picker.reevaluation import reevaluated
from tests.unit.picker.runtime.room import A, B, Room, pool


def room(*addresses: str, **settings: object) -> Room:
    """One request at once per endpoint."""
    config = {"detector": ConcurrencyConfig(requests_max=1), **settings}
    made = pool(*addresses, low=-10).model_copy(update={"flow": FlowConfig.model_validate(config)})
    return Room(made)


def remembered(made: Room) -> list[Recorded]:
    """Oldest first."""
    return made.desk.ring.newest_first()[::-1]


def test_how_long_a_request_waited() -> None:
    made = room(A)
    assert made.say(pick(1))
    assert made.say(pick(2)) == []
    assert len(remembered(made)) == 1, "what waits is not decided"
    made.now_s += 0.25
    made.say(done(1))
    first, second = remembered(made)
    assert (first.waited_s, second.waited_s) == (0.0, 0.25)
    assert second.outcome is Outcome.PICKED
    made.say(done(2))
    assert second.done is not None


def test_a_client_that_left_while_it_waited() -> None:
    made = room(A)
    made.say(pick(1), pick(2, objective="low"))
    made.now_s += 2.0
    made.say(done(2, end=2, status=0))
    _, left = remembered(made)
    assert (left.outcome, left.waited_s, left.priority) == (CLIENT_LEFT, 2.0, -10)


def test_one_whose_time_ran_out_and_one_that_found_no_place() -> None:
    made = room(A, ttl_s=3.0, default_band=BandConfig(requests_max=1))
    made.say(pick(1), pick(2, seed=2), pick(3, seed=3))
    _, full = remembered(made)
    assert (full.outcome, full.waited_s, full.priority) == (Outcome.QUEUE_FULL, 0.0, 0)
    assert full.choice is not None, "what it saw is known"
    assert full.choice.rows == ()
    made.advance(5.0)
    late = remembered(made)[-1]
    assert late.outcome is Outcome.QUEUE_TIMEOUT
    assert 3.0 <= late.waited_s < 4.0


def test_a_request_that_is_shed_tells_what_it_saw() -> None:
    made = room(A, mode="legacy", shedding=SheddingConfig())
    made.say(pick(1))
    made.say(pick(2, objective="low"))
    shed = remembered(made)[-1]
    assert (shed.outcome, shed.priority) == (Outcome.SHED, -10)
    assert shed.choice is not None
    assert shed.choice.weighed.endpoints.addresses == (A,)


def test_a_second_best_with_room_comes_out_the_same_again() -> None:
    made = room(A, B)
    for stream in range(1, 41, 2):
        # The second one would rather go where the first one's prompt has just been computed.
        for asked in (stream, stream + 1):
            made.say(pick(asked, blocks=80, prompt_bytes=32 * 1_024, seed=stream), first(asked))
        made.now_s += 0.1
        made.say(done(stream), done(stream + 1))
    narrowed = 0
    for record in remembered(made):
        choice = record.choice
        assert choice is not None
        rows = reevaluated(choice, choice.profile, choice.draws, np.random.default_rng(1))
        assert rows == list(choice.rows)
        narrowed += NO_ROOM in dict(choice.weighed.removals)
    assert narrowed > 3, "some of them were sent where there was room"
