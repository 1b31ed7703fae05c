"""Predictions, and what uses them: worked numbers.

With the shipped constants a prompt of 3,100 tokens takes 0.1 s, and its attention is set to 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway.picker.scheduling.engine_constants import EngineColumns, EngineConstants
from inferway.picker.scheduling.filters.slo_headroom import SloHeadroom
from inferway.picker.scheduling.predictions import Predictor, idle
from inferway.picker.scheduling.scorers.latency import Latency
from inferway.testing import Asked, endpoints, request

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Request

FAST = EngineConstants(attention_s=0.0, step_s=0.01, context_token_s=1e-6, sequence_s=1e-3)
SLOW = replace(FAST, prefill_tokens_per_s=3_100.0, step_s=0.05, first_token_s=0.125)


def pool(**columns: list[float]) -> Endpoints:
    """Two fast endpoints and two slow ones, each with one request of no size."""
    columns = {"in_flight": [1.0] * 4, "kv_usage_ratio": [0.5] * 4, **columns}
    return replace(endpoints(4, **columns), constants=EngineColumns.of([FAST, FAST, SLOW, SLOW]))


def asked(*, ttft_ms: int = 0, tpot_ms: int = 0, candidates: list[bool] | None = None) -> Request:
    return request(
        4,
        prompt_tokens=3_100.0,
        output_tokens=900.0,
        candidates=candidates,
        pick=Asked(slo_ttft_ms=ttft_ms, slo_tpot_ms=tpot_ms),
    )


def test_predictions() -> None:
    eps = pool(pending_tokens=[0.0, 6_200.0, 0.0, 310.0], context_tokens=[0.0, 16_000.0, 0.0, 0.0])
    predictor = Predictor()
    assert predictor.ttft_s(asked(), eps).tolist() == pytest.approx([0.125, 0.325, 1.125, 1.225])
    # 10 ms, 4,000 tokens of its own at 1 µs, two requests at 1 ms; 16 ms more where others are.
    assert predictor.tpot_s(asked(), eps).tolist() == pytest.approx([0.016, 0.032, 0.056, 0.056])
    half = asked()._replace(matched_tokens=np.array([1_550.0, 0.0, 0.0, 0.0]))
    assert predictor.ttft_s(half, eps)[0] == pytest.approx(0.075)


def test_predictions_without_anything_learnt_are_of_the_shipped_engine() -> None:
    predictor = Predictor()
    for count in (4, 2, 4):
        seconds = predictor.ttft_s(request(count, prompt_tokens=3_100.0), endpoints(count))
        assert seconds.tolist() == [pytest.approx(0.125 + 1.3e-9 * 3_100 * 1_550)] * count


def test_headroom_is_infinite_without_an_objective() -> None:
    headroom = Predictor().headroom(asked(ttft_ms=200), pool())
    assert headroom.ttft_s.tolist() == pytest.approx([0.075, 0.075, -0.925, -0.925])
    assert np.isposinf(headroom.tpot_s).all()
    assert headroom.met.tolist() == [True, True, False, False]


def test_idle_has_no_request_or_next_to_nothing_cached() -> None:
    eps = pool(in_flight=[0.0, 1.0, 1.0, 1.0], kv_usage_ratio=[0.5, 0.01, 0.5, np.nan])
    assert idle(eps).tolist() == [True, True, False, False]


def test_filter_keeps_who_meets_the_objectives() -> None:
    filter_ = SloHeadroom(epsilon_explore_neg=0.0)
    assert filter_.keep(asked(ttft_ms=200), pool()).tolist() == [True, True, False, False]
    assert (
        filter_.keep(asked(ttft_ms=2_000, tpot_ms=20), pool()).tolist() == [True] * 2 + [False] * 2
    )
    assert filter_.keep(asked(ttft_ms=1), pool()).tolist() == [False] * 4
    assert filter_.keep(asked(), pool()).tolist() == [True] * 4


def test_filter_explores_its_share_of_streams_the_same_way_each_time() -> None:
    filter_ = SloHeadroom(epsilon_explore_neg=0.25)

    def explored(stream: int) -> bool:
        one = asked()._replace(pick=Asked(stream=stream, slo_ttft_ms=200))
        return filter_.keep(one, pool()).tolist() == [False, False, True, True]

    streams = [explored(stream) for stream in range(2_000)]
    assert 0.2 < np.mean(streams) < 0.3
    assert streams == [explored(stream) for stream in range(2_000)]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        # Headroom of TTFT 0.875, 0.675, -0.125, -0.225 s; the slow ones miss it.
        ("most", [0.98, 0.8, 0.38, 0.2]),
        ("least", [0.8, 0.98, 0.38, 0.2]),
    ],
)
def test_scorer_prefers_who_meets_the_objective(strategy: str, expected: list[float]) -> None:
    eps = pool(pending_tokens=[0.0, 6_200.0, 0.0, 310.0])
    scorer = Latency(headroom_selection_strategy=strategy)  # type: ignore[arg-type]
    found = scorer.score(asked(ttft_ms=1_000), eps).tolist()
    assert found == pytest.approx(expected, abs=1e-6)


def test_scorer_groups_by_what_is_missed() -> None:
    """TPOT; TPOT, but idle; nothing; TTFT. Each is alone in its group."""
    eps = pool(
        in_flight=[1.0, 0.0, 1.0, 1.0],
        context_tokens=[1e6, 0.0, 0.0, 0.0],
        pending_tokens=[0.0, 0.0, 0.0, 31_000.0],
    )
    eps = replace(eps, constants=EngineColumns.of([FAST, replace(SLOW, step_s=1.0), SLOW, SLOW]))
    most = Latency(headroom_selection_strategy="most")
    found = most.score(asked(ttft_ms=1_500, tpot_ms=57), eps).tolist()
    assert found == pytest.approx([0.2 * 2.9, 0.2 * 3.9, 0.2 * 4.9, 0.2 * 1.9])
    # Now two miss TPOT alone: what they miss it by has a fifth of the weight.
    both = most.score(asked(ttft_ms=1_500, tpot_ms=55), eps).tolist()
    assert both == pytest.approx([0.2 * (2 + 0.9 * 0.8), 0.2 * 3.9, 0.2 * 2.9, 0.2 * 0.9])


def test_scorer_without_objectives_prefers_the_fastest() -> None:
    eps = pool(pending_tokens=[0.0, 6_200.0, 0.0, 0.0])
    found = Latency(ttft_weight=1.0, tpot_weight=0.0).score(asked(), eps).tolist()
    assert found == pytest.approx([1.0, 0.8, 0.0, 0.0])


def test_scorer_compares_the_candidates() -> None:
    eps = pool(pending_tokens=[0.0, 6_200.0, 0.0, 0.0])
    one = asked(candidates=[False, True, True, True])
    found = Latency(ttft_weight=1.0, tpot_weight=0.0).score(one, eps).tolist()
    assert found == pytest.approx([1.0, 1.0, 0.0, 0.0])
