"""Every outcome has one reply and one test: the desk's tests are named after the outcomes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inferway.picker.outcome import MODEL_SHOWN_MAX, REPLIES, Outcome, reject
from inferway.picker.protocol.filter_side import Answers, Reject


def test_every_outcome_but_picked_has_a_reply() -> None:
    assert set(REPLIES) == set(Outcome) - {Outcome.PICKED}


def test_every_outcome_has_a_test() -> None:
    files = ("test_desk.py", "test_holding.py")
    source = "".join((Path(__file__).parent / name).read_text() for name in files)
    tested = set(re.findall(r"^def test_outcome_(\w+)\(", source, flags=re.MULTILINE))
    assert tested == {outcome.value for outcome in Outcome}


@pytest.mark.parametrize("outcome", list(REPLIES))
def test_replies_are_complete(outcome: Outcome) -> None:
    reply = REPLIES[outcome]
    assert 400 <= reply.status <= 599
    assert reply.type
    assert reply.code
    assert "{" not in reply.message.format(model="m", pool="p")
    assert (reply.status == 503) == (reply.retry_after_ms > 0)


def test_a_hostile_model_name_is_cut_and_not_interpreted() -> None:
    model = "{pool}" + "x" * 10_000
    frame = reject(Outcome.MODEL_NOT_FOUND, stream=1, model=model, pool="secret/pool")
    (answer,) = Answers().feed(frame)
    assert isinstance(answer, Reject)
    assert "secret" not in answer.message
    assert "{pool}xxx" in answer.message
    assert len(answer.message) < MODEL_SHOWN_MAX + 100


def test_picked_is_no_refusal() -> None:
    with pytest.raises(KeyError):
        reject(Outcome.PICKED, stream=1, model="m", pool="p")
