"""The Python filter agrees with the native codec: each was written from the document alone."""

from __future__ import annotations

import pytest

from inferway._native import (
    Done,
    Fault,
    First,
    FrameReader,
    Hello,
    Open,
    Pick,
    encode_endpoints,
    encode_heartbeat,
    encode_queued,
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
            filter_side.pick(
                3,
                streamed=True,
                fairness="f",
                session="s",
                slo_ttft_ms=1,
                slo_tpot_ms=2,
                ttl_ms=3,
                user="u",
                subset="10.0.0.1:1",
                exclude="10.0.0.2:1",
                headers={"x-a": "1", "x-b": "2"},
                tools=True,
                keeps_alive=True,
            ),
            filter_side.pick(4, subset=""),
            filter_side.first(1, ttft_us=55, status=201),
            filter_side.done(
                1,
                end=2,
                status=499,
                usage=(10, 4, 6),
                event_stream=True,
                endpoint="[::1]:80",
                attempts=2,
                retry_after_ms=1_500,
                fault=1,
                finish=1,
            ),
            filter_side.done(2, ttft_us=0),
            filter_side.opened(3, endpoint="10.0.0.1:1", uncached=5, context=6, phase=1, model="m"),
            filter_side.fault("10.0.0.1:1", cause=4, status=503, retry_after_ms=7_000),
        )
    )
    hello, pick, again, rich, nobody, first, done, bare, opened, fault = FrameReader().feed(sent)
    assert isinstance(hello, Hello)
    assert (hello.major, hello.minor, hello.filter_id) == (1, 3, 7)
    assert isinstance(pick, Pick)
    assert (pick.stream, pick.model, pick.objective, pick.priority) == (1, "lläma", "chat", -4)
    assert (pick.repeated, len(pick.hashes), pick.request_id) == (False, 3, "request-1")
    assert isinstance(again, Pick)
    assert (again.repeated, again.priority, again.max_tokens) == (True, None, 9)
    assert (again.streamed, again.tools, again.keeps_alive, again.headers) == (
        False,
        False,
        False,
        {},
    )
    assert (again.subset, again.exclude, again.user) == (None, "", "")
    assert isinstance(rich, Pick)
    assert (rich.streamed, rich.repeated, rich.tools, rich.keeps_alive) == (True, False, True, True)
    assert (rich.slo_ttft_ms, rich.slo_tpot_ms, rich.ttl_ms, rich.user) == (1, 2, 3, "u")
    assert (rich.subset, rich.exclude) == ("10.0.0.1:1", "10.0.0.2:1")
    assert (rich.fairness, rich.session) == ("f", "s")
    assert rich.headers == {"x-a": "1", "x-b": "2"}
    assert isinstance(nobody, Pick)
    assert nobody.subset == ""
    assert isinstance(first, First)
    assert (first.stream, first.ttft_us, first.status) == (1, 55, 201)
    assert isinstance(done, Done)
    assert (done.end, done.status, done.usage, done.event_stream) == (2, 499, True, True)
    assert (done.prompt_tokens, done.cached_tokens, done.completion_tokens) == (10, 4, 6)
    assert (done.first_seen, done.endpoint) == (True, "[::1]:80")
    assert (done.attempts, done.retry_after_ms, done.fault, done.finish) == (2, 1_500, 1, 1)
    assert isinstance(fault, Fault)
    assert (fault.pool, fault.endpoint, fault.cause) == ("default/pool", "10.0.0.1:1", 4)
    assert (fault.status, fault.retry_after_ms) == (503, 7_000)
    assert isinstance(bare, Done)
    assert (bare.usage, bare.first_seen) == (False, False)
    assert isinstance(opened, Open)
    assert (opened.charged_uncached, opened.charged_context, opened.phase) == (5, 6, 1)
    assert (opened.pool, opened.model, opened.endpoint) == ("default/pool", "m", "10.0.0.1:1")


def test_what_the_picker_sends_is_understood() -> None:
    sent = b"".join(
        (
            encode_welcome(2**63, 100),
            encode_endpoints(4, 11, 12, "10.0.0.1:1,10.0.0.2:1", "m", 5, 800, "near"),
            encode_reject(5, 503, 1_000, "t", "c", "mé", "r", 2),
            encode_heartbeat(),
            encode_queued(6, 5_000),
        )
    )
    answers = filter_side.Answers()
    got = [answer for byte in range(len(sent)) for answer in answers.feed(sent[byte : byte + 1])]
    assert got == [
        filter_side.Welcome(1, 1, 2**63, 100),
        filter_side.Endpoints(4, 11, 12, ("10.0.0.1:1", "10.0.0.2:1"), "m", 5, 800, "near"),
        filter_side.Reject(5, 503, 1_000, "t", "c", "mé", "r", 2),
        filter_side.Heartbeat(),
        filter_side.Queued(6, 5_000),
    ]


@pytest.mark.parametrize("broken", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\0\0\0\x42"])
def test_a_broken_answer_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="frame"):
        filter_side.Answers().feed(broken)
