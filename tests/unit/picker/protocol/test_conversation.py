"""Frames in, actions out: what is admitted, in which order, and what ends a conversation."""

from __future__ import annotations

import itertools

import pytest

from inferway._native import Done, Fault, First, Frame, FrameReader, Open, Pick, encode_welcome
from inferway.picker.protocol import filter_side
from inferway.picker.protocol.conversation import Admitted, Conversation, Release

PICK = filter_side.pick(1)
REPEATED = filter_side.pick(1, repeated=True)
OPEN = filter_side.opened(1, endpoint="10.0.0.1:8000")
STREAMING = filter_side.opened(1, endpoint="10.0.0.1:8000", phase=1)
FIRST = filter_side.first(1)
DONE = filter_side.done(1)
FAULT = filter_side.fault("10.0.0.1:8000", cause=1)


def frames(*encoded: bytes) -> list[Frame]:
    return FrameReader().feed(b"".join(encoded))


def greeted() -> Conversation:
    conversation = Conversation(epoch=9, heartbeat_ms=100)
    conversation.receive(frames(filter_side.hello(5)))
    return conversation


def names(admitted: list[Admitted]) -> list[str]:
    return [type(frame).__name__ for frame in admitted]


def test_hello_is_answered_with_welcome() -> None:
    conversation = Conversation(epoch=9, heartbeat_ms=100)
    actions = conversation.receive(frames(filter_side.hello(5)))
    assert actions.send == encode_welcome(9, 100)
    assert actions.apply == []
    assert actions.close == ""
    assert conversation.filter_id == 5


def test_frames_that_come_with_hello_are_admitted() -> None:
    conversation = Conversation(epoch=9, heartbeat_ms=100)
    actions = conversation.receive(frames(filter_side.hello(), OPEN, filter_side.pick(2)))
    assert actions.send
    assert names(actions.apply) == ["Open", "Pick"]


def test_a_newer_minor_version_is_welcome() -> None:
    conversation = Conversation(epoch=9, heartbeat_ms=100)
    assert not conversation.receive(frames(filter_side.hello(minor=7))).close


@pytest.mark.parametrize("first", [PICK, OPEN, FIRST, DONE, FAULT])
def test_nothing_is_admitted_before_hello(first: bytes) -> None:
    conversation = Conversation(epoch=9, heartbeat_ms=100)
    actions = conversation.receive(frames(first, filter_side.hello()))
    assert "not HELLO" in actions.close
    assert actions.apply == []
    assert actions.send == b""


def test_another_major_version_ends_the_conversation() -> None:
    conversation = Conversation(epoch=9, heartbeat_ms=100)
    actions = conversation.receive(frames(filter_side.hello(major=2), PICK))
    assert "major version 2" in actions.close
    assert actions.send == b""
    assert conversation.filter_id is None


def test_a_second_hello_ends_the_conversation() -> None:
    conversation = greeted()
    assert "twice" in conversation.receive(frames(filter_side.hello(5))).close


def test_nothing_is_admitted_after_the_end() -> None:
    conversation = greeted()
    conversation.receive(frames(filter_side.hello(5)))
    assert conversation.receive(frames(PICK)).apply == []
    assert len(conversation) == 0


def test_what_came_before_a_violation_is_still_admitted() -> None:
    actions = greeted().receive(frames(PICK, FIRST, filter_side.hello(), DONE))
    assert names(actions.apply) == ["Pick", "First"]
    assert actions.close


def test_an_ordinary_stream() -> None:
    conversation = greeted()
    assert names(conversation.receive(frames(PICK)).apply) == ["Pick"]
    assert len(conversation) == 1
    assert names(conversation.receive(frames(FIRST)).apply) == ["First"]
    assert names(conversation.receive(frames(DONE)).apply) == ["Done"]
    assert len(conversation) == 0
    assert conversation.dropped == 0


def test_a_repeated_pick_releases_what_the_stream_held() -> None:
    conversation = greeted()
    actions = conversation.receive(frames(PICK, FIRST, REPEATED, FIRST, DONE))
    assert names(actions.apply) == ["Pick", "First", "Release", "Pick", "First", "Done"]
    assert actions.apply[2] == Release(1)


def test_a_repeated_pick_of_a_new_stream_releases_nothing() -> None:
    assert names(greeted().receive(frames(REPEATED)).apply) == ["Pick"]


@pytest.mark.parametrize("before", [PICK, OPEN])
def test_picking_a_stream_twice_ends_the_conversation(before: bytes) -> None:
    assert "picked twice" in greeted().receive(frames(before, PICK)).close


@pytest.mark.parametrize("before", [PICK, OPEN])
def test_opening_a_stream_twice_ends_the_conversation(before: bytes) -> None:
    assert "opened twice" in greeted().receive(frames(before, OPEN)).close


def test_events_of_unknown_streams_are_dropped() -> None:
    conversation = greeted()
    actions = conversation.receive(frames(FIRST, DONE))
    assert actions.apply == []
    assert not actions.close
    assert conversation.dropped == 2


def test_only_the_first_done_counts() -> None:
    conversation = greeted()
    assert names(conversation.receive(frames(PICK, DONE, DONE)).apply) == ["Pick", "Done"]
    assert conversation.dropped == 1


def test_a_replayed_stream_that_streams_has_had_its_first() -> None:
    conversation = greeted()
    assert names(conversation.receive(frames(STREAMING, FIRST, DONE)).apply) == ["Open", "Done"]


def test_an_empty_batch_changes_nothing() -> None:
    conversation = Conversation(epoch=9, heartbeat_ms=100)
    assert conversation.receive([]).apply == []
    assert not conversation.closed


def test_faults_are_of_no_stream() -> None:
    conversation = greeted()
    admitted = conversation.receive(frames(FAULT, PICK, FAULT, DONE, FAULT)).apply
    assert names(admitted) == ["Fault", "Pick", "Fault", "Done", "Fault"]
    assert (len(conversation), conversation.dropped) == (0, 0)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_every_order_keeps_the_promise(batch: int) -> None:
    """Per stream the admitted frames are (Pick | Open) First? (Done | Release)?, over and over."""
    for order in itertools.product([PICK, REPEATED, OPEN, STREAMING, FIRST, DONE], repeat=4):
        conversation = greeted()
        admitted: list[Admitted] = []
        for start in range(0, len(order), batch):
            admitted += conversation.receive(frames(*order[start : start + batch])).apply
        alive = streaming = False
        for frame in admitted:
            match frame:
                case Pick() | Open():
                    assert not alive
                    alive, streaming = True, isinstance(frame, Open) and frame.phase == 1
                case First():
                    assert alive
                    assert not streaming
                    streaming = True
                case Done() | Release():
                    assert alive
                    alive = False
                case Fault():
                    pytest.fail("none was sent")
        assert len(conversation) == (alive and not conversation.closed)
