"""The Python filter agrees with the native codec: each was written from the document alone."""

from __future__ import annotations

import pytest

from inferway._native import (
    Done,
    First,
    FrameReader,
    Hello,
    Open,
    Pick,
    encode_endpoints,
    encode_heartbeat,
    encode_reject,
    encode_welcome,
)
from inferway.picker.protocol import filter_side


def test_what_the_filter_sends_is_understood() -> None:
    sent = b"".join(
        (
            filter_side.hello(7, minor=3),
            filter_side.pick(1, model="lläma", objective="chat", priority=-4, blocks=3),
            filter_side.pick(2, repeated=True, blocks=0, max_tokens=9),
            filter_side.first(1, ttft_us=55, status=201),
            filter_side.done(
                1, end=2, status=499, usage=(10, 4, 6), event_stream=True, endpoint="[::1]:80"
            ),
            filter_side.done(2, ttft_us=0),
            filter_side.opened(3, endpoint="10.0.0.1:1", uncached=5, context=6, phase=1, model="m"),
        )
    )
    hello, pick, again, first, done, bare, opened = FrameReader().feed(sent)
    assert isinstance(hello, Hello)
    assert (hello.major, hello.minor, hello.filter_id) == (1, 3, 7)
    assert isinstance(pick, Pick)
    assert (pick.stream, pick.model, pick.objective, pick.priority) == (1, "lläma", "chat", -4)
    assert (pick.repeated, len(pick.hashes), pick.request_id) == (False, 3, "request-1")
    assert isinstance(again, Pick)
    assert (again.repeated, again.priority, again.max_tokens) == (True, None, 9)
    assert isinstance(first, First)
    assert (first.stream, first.ttft_us, first.status) == (1, 55, 201)
    assert isinstance(done, Done)
    assert (done.end, done.status, done.usage, done.event_stream) == (2, 499, True, True)
    assert (done.prompt_tokens, done.cached_tokens, done.completion_tokens) == (10, 4, 6)
    assert (done.first_seen, done.endpoint) == (True, "[::1]:80")
    assert isinstance(bare, Done)
    assert (bare.usage, bare.first_seen) == (False, False)
    assert isinstance(opened, Open)
    assert (opened.charged_uncached, opened.charged_context, opened.phase) == (5, 6, 1)
    assert (opened.pool, opened.model, opened.endpoint) == ("default/pool", "m", "10.0.0.1:1")


def test_what_the_picker_sends_is_understood() -> None:
    sent = b"".join(
        (
            encode_welcome(2**63, 100),
            encode_endpoints(4, 11, 12, "10.0.0.1:1,10.0.0.2:1", "m"),
            encode_reject(5, 503, 1_000, "t", "c", "mé", "r"),
            encode_heartbeat(),
        )
    )
    answers = filter_side.Answers()
    got = [answer for byte in range(len(sent)) for answer in answers.feed(sent[byte : byte + 1])]
    assert got == [
        filter_side.Welcome(1, 0, 2**63, 100),
        filter_side.Endpoints(4, 11, 12, ("10.0.0.1:1", "10.0.0.2:1"), "m"),
        filter_side.Reject(5, 503, 1_000, "t", "c", "mé", "r"),
        filter_side.Heartbeat(),
    ]


@pytest.mark.parametrize("broken", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\0\0\0\x42"])
def test_a_broken_answer_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="frame"):
        filter_side.Answers().feed(broken)
