"""What counts of a publisher's batches, whatever is lost on the way."""

from __future__ import annotations

import random
from collections import deque

import pytest

from inferway.picker.datalayer.kv_events.sequence import Action, Apply, Ask, Forget, Sequence


def batch(number: int) -> bytes:
    return str(number).encode()


def live(sequence: Sequence, *numbers: int) -> list[Action]:
    return [action for number in numbers for action in sequence.live(number, batch(number))]


def applied(*numbers: int) -> list[Apply]:
    return [Apply(batch(number)) for number in numbers]


def test_batches_in_order_are_applied() -> None:
    assert live(Sequence(replays=True), 0, 1, 2) == applied(0, 1, 2)


def test_a_late_start_asks_for_all_that_came_before() -> None:
    sequence = Sequence(replays=True)
    assert live(sequence, 5, 6) == [Ask(0)]
    assert sequence.replaying
    assert sequence.replayed(3, batch(3)) == applied(3)  # the buffer does not reach further back
    assert sequence.replayed(4, batch(4)) == applied(4)
    assert sequence.replayed(5, batch(5)) == applied(5)
    assert sequence.replay_ended() == applied(6)
    assert live(sequence, 7) == applied(7)
    assert (sequence.gaps, sequence.losses) == (1, 0)


def test_a_late_start_without_replay_begins_where_it_can() -> None:
    assert live(Sequence(replays=False), 5, 6) == applied(5, 6)


def test_a_gap_is_filled() -> None:
    sequence = Sequence(replays=True)
    assert live(sequence, 0, 1, 4, 5) == [*applied(0, 1), Ask(1)]
    assert sequence.replayed(1, batch(1)) == []  # known: it is the same publisher
    assert sequence.replayed(2, batch(2)) == applied(2)
    assert sequence.replayed(3, batch(3)) == applied(3)
    assert sequence.replay_ended() == applied(4, 5)
    assert sequence.replayed(3, batch(3)) == []  # told twice


@pytest.mark.parametrize("replays", [True, False])
def test_what_a_gap_has_lost_is_forgotten(replays: bool) -> None:
    sequence = Sequence(replays=replays)
    actions = live(sequence, 0, 3) + sequence.replay_ended()
    expected = [*applied(0), *([Ask(0)] if replays else []), Forget(restarted=False), *applied(3)]
    assert actions == expected
    assert (sequence.gaps, sequence.losses, sequence.restarts) == (1, 1, 0)


def test_a_replay_may_be_faster_than_what_it_repeats() -> None:
    sequence = Sequence(replays=True)
    assert live(sequence, 5) == [Ask(0)]
    for number in range(8):
        assert sequence.replayed(number, batch(number)) == applied(number)
    assert sequence.replay_ended() == []
    assert live(sequence, 6, 7, 8) == applied(8)
    assert sequence.restarts == 0


def test_a_restart_forgets_everything() -> None:
    sequence = Sequence(replays=True)
    assert live(sequence, 0, 1, 0) == [*applied(0, 1), Forget(restarted=True), *applied(0)]
    assert live(sequence, 1) == applied(1)
    assert sequence.restarts == 1


def test_a_restart_while_a_replay_runs() -> None:
    sequence = Sequence(replays=True)
    assert live(sequence, 0, 5, 6, 0) == [
        *applied(0),
        Ask(0),
        Forget(restarted=True),
        *applied(0),
    ]
    assert sequence.replayed(1, batch(1)) == []  # of the old process
    assert live(sequence, 1) == applied(1)


def test_a_gap_that_hides_a_restart() -> None:
    sequence = Sequence(replays=True)
    assert live(sequence, 0, 1, 9) == [*applied(0, 1), Ask(1)]
    assert sequence.replayed(1, b"of another process") == [Forget(restarted=True), Ask(0)]
    assert sequence.replayed(0, b"zero") == [Apply(b"zero")]
    assert sequence.replayed(1, b"of another process") == [Apply(b"of another process")]
    assert sequence.replay_ended() == [Forget(restarted=False), *applied(9)]
    assert sequence.restarts == 1


@pytest.mark.parametrize("same", [True, False])
def test_after_a_new_connection_the_publisher_is_looked_at(same: bool) -> None:
    sequence = Sequence(replays=True)
    live(sequence, 0, 1)
    sequence.reconnected()
    assert live(sequence, 2) == [Ask(1)]
    if same:
        assert sequence.replayed(1, batch(1)) == []
        assert sequence.replayed(2, batch(2)) == applied(2)
        assert sequence.replay_ended() == []
    else:
        assert sequence.replayed(1, b"another") == [Forget(restarted=True), Ask(0)]
    assert (sequence.gaps, sequence.losses, sequence.restarts) == (0, 0, int(not same))


def test_a_first_connection_and_one_without_replay_are_not_doubted() -> None:
    for replays in (True, False):
        sequence = Sequence(replays=replays)
        sequence.reconnected()
        assert live(sequence, 0) == applied(0)
        if not replays:
            sequence.reconnected()
        assert live(sequence, 1) == applied(1)


def test_what_waits_for_a_replay_is_bounded() -> None:
    sequence = Sequence(replays=True, held_max=3)
    assert live(sequence, 0, 5, 6, 7) == [*applied(0), Ask(0)]
    assert live(sequence, 8) == [Forget(restarted=False), *applied(5, 6, 7, 8)]


class Publisher:
    """An engine with its replay buffer; every batch adds a block, or removes or clears some."""

    def __init__(self, source: random.Random, kept: int) -> None:
        self.source = source
        self.held: set[int] = set()
        self.kept: deque[tuple[int, bytes]] = deque(maxlen=kept)
        self.number = 0
        self.fresh = source.randrange(10**6)

    def publish(self) -> tuple[int, bytes]:
        self.fresh += 1
        words = [f"+{self.fresh}"]
        if self.held and self.source.random() < 0.6:
            words.append(f"-{self.source.choice(sorted(self.held))}")
        if self.source.random() < 0.02:
            words = ["clear"]
        one = (self.number, " ".join(words).encode())
        apply(self.held, one[1])
        self.kept.append(one)
        self.number += 1
        return one


def apply(held: set[int], told: bytes) -> None:
    for word in told.decode().split():
        if word == "clear":
            held.clear()
        elif word[0] == "+":
            held.add(int(word[1:]))
        else:
            held.discard(int(word[1:]))


@pytest.mark.parametrize("seed", range(40))
def test_what_is_known_is_never_more_than_what_is_there(seed: int) -> None:
    """A publisher that loses batches, replays some and restarts, in a thousand random steps."""
    source = random.Random(seed)
    replays, kept = source.random() < 0.7, source.choice([0, 5, 1000])
    publisher = Publisher(source, kept)
    sequence = Sequence(replays=replays, held_max=20)
    known: set[int] = set()
    asked: deque[tuple[int, bytes] | None] = deque()
    lossless = True

    def act(actions: list[Action]) -> None:
        nonlocal lossless
        for action in actions:
            if isinstance(action, Apply):
                apply(known, action.batch)
            elif isinstance(action, Ask):
                asked.clear()
                asked.extend(one for one in publisher.kept if one[0] >= action.since)
                asked.append(None)
            else:
                known.clear()
                lossless = lossless and action.restarted

    travelling: deque[tuple[int, bytes]] = deque()

    def arrive(most: int) -> None:
        for _ in range(most):
            if travelling:
                act(sequence.live(*travelling.popleft()))
            if asked:
                told = asked.popleft()
                act(sequence.replay_ended() if told is None else sequence.replayed(*told))

    for _ in range(1000):
        one = publisher.publish()
        if source.random() < 0.97:
            travelling.append(one)
        arrive(source.choice([0, 0, 1, 2, 5]))
        if source.random() < 0.005:
            # A restart is seen when a number comes again, or by a replay that shows another batch.
            publisher = Publisher(source, kept)
            if not replays or kept < 1000:
                travelling.append(publisher.publish())
    travelling.append(publisher.publish())
    arrive(20_000)
    assert known <= publisher.held
    if replays and kept == 1000 and lossless:
        assert known == publisher.held
