"""Refusals by latency objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from inferway.picker.flowcontrol.asked import Refusal
from inferway.picker.flowcontrol.config import FlowConfig
from inferway.picker.flowcontrol.slo_admission import SloAdmission
from inferway.picker.outcome import Outcome
from inferway.picker.protocol import filter_side
from inferway.picker.scheduling.decide import Weighed
from inferway.testing import Asked, endpoints, request
from tests.unit.picker.runtime.room import A, Room, placed, pool

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.config import SloAdmissionOf

NOW_S = 100.0


def weighed(
    *,
    ttft_ms: int = 0,
    tpot_ms: int = 0,
    priority: int = 0,
    waited_s: float = 0.0,
    candidates: list[bool] | None = None,
    **columns: list[float],
) -> Weighed:
    """Two busy endpoints; 31,000 tokens ahead are a second."""
    received_ns = round((NOW_S - waited_s) * 1e9)
    columns = {"in_flight": [3.0, 3.0], "kv_usage_ratio": [0.5, 0.5], **columns}
    one = request(
        2,
        priority=priority,
        prompt_tokens=1.0,
        candidates=candidates,
        pick=Asked(slo_ttft_ms=ttft_ms, slo_tpot_ms=tpot_ms, received_ns=received_ns),
    )
    return Weighed(one, endpoints(2, **columns), np.zeros(2), one.candidates, (), ())


def refusal(of: str = "all", **state: object) -> Refusal | None:
    made = SloAdmission(cast("SloAdmissionOf", of))
    return made.refusal(weighed(**state), NOW_S)  # type: ignore[arg-type]


BUSY = {"pending_tokens": [93_000.0, 62_000.0]}


def test_goes_on_while_one_candidate_meets_the_objective() -> None:
    assert refusal(ttft_ms=2_100, **BUSY) is None
    assert refusal(ttft_ms=1_900, **BUSY) is not None


def test_is_told_when_the_least_loaded_will_meet_it() -> None:
    # 2 s of prefill and 25 ms for 1.9 s: in an eighth of a second, but a second is the least.
    assert refusal(ttft_ms=1_900, **BUSY) == Refusal(Outcome.SLO_MISSED, 1.0, True)
    assert refusal(ttft_ms=500, **BUSY) == Refusal(Outcome.SLO_MISSED, 2.0, True)


def test_what_it_has_waited_counts() -> None:
    assert refusal(ttft_ms=2_100, waited_s=0.2, **BUSY) is not None


def test_only_candidates_count() -> None:
    assert refusal(ttft_ms=2_100, candidates=[True, False], **BUSY) is not None
    assert refusal(ttft_ms=2_100, candidates=[False, False], **BUSY) is None  # not our refusal


def test_an_idle_endpoint_is_tried() -> None:
    assert refusal(ttft_ms=1, in_flight=[0.0, 3.0], **BUSY) is None
    assert refusal(ttft_ms=1, kv_usage_ratio=[0.01, 0.5], **BUSY) is None
    assert refusal(ttft_ms=1, **BUSY) is not None


@pytest.mark.parametrize(
    ("of", "priority", "refused"),
    [
        ("all", 0, True),
        ("all", -1, True),
        ("sheddable", 0, False),
        ("sheddable", -1, True),
        ("none", -1, False),
    ],
)
def test_whose_objectives_count(of: str, priority: int, refused: bool) -> None:
    assert (refusal(of, ttft_ms=100, priority=priority, **BUSY) is not None) is refused


def test_tpot_is_a_reason_for_negative_priorities_only() -> None:
    slow = {"context_tokens": [1e6, 1e6]}
    assert refusal(tpot_ms=10, priority=-1, **slow) == Refusal(Outcome.SLO_MISSED, 1.0, True)
    assert refusal(tpot_ms=10, **slow) is None
    assert refusal(tpot_ms=200, priority=-1, **slow) is None


def test_may_be_turned_off() -> None:
    room = Room(pool(A).model_copy(update={"flow": FlowConfig(slo_admission="none")}))
    placed(room.say(filter_side.pick(1, blocks=0, prompt_bytes=400_000)))
    placed(room.say(filter_side.pick(2, slo_ttft_ms=1, received_ns=round(room.now_s * 1e9))))
