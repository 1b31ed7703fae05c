"""What people are shown of a decision, against decisions whose numbers are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway.picker.config import PoolExplainConfig
from inferway.picker.datalayer.engines import Reading
from inferway.picker.datalayer.readiness import Unready
from inferway.picker.protocol import filter_side
from inferway.picker.protocol.filter_side import Endpoints as Answered
from inferway.picker.scheduling.decide import Weighed
from inferway.picker.scheduling.profile import Profile, Term
from inferway.picker.scheduling.reason import reason
from inferway.testing import endpoints, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request

    from .conftest import Recording

    Make = Callable[..., Recording]

A, B, C = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"


async def test_a_decision_in_full(recording: Make) -> None:
    made = recording(3)
    made.layer.scraped(A, Reading(2.0, 5.0, 0.25), 7.0, 999.5)
    made.layer.pools["default/pool"].table.set_unready(2, Unready.DRAINING, True)
    made.say(filter_side.pick(1, blocks=8, prompt_bytes=2048, objective="important"))
    made.now_s += 2.0
    made.say(filter_side.done(1, endpoint=A, usage=(500, 256, 100), ttft_us=30_000))
    (one,) = (await made.ask(request_id="request-1", candidates_max=10)).explanations
    assert (one.request_id, one.pool, one.outcome) == ("request-1", "default/pool", "picked")
    assert (one.at, one.age_s) == ("2025-01-01T11:59:58.000+00:00", 2.0)
    assert (one.policy, one.priority, one.objective) == ("marginal-cost", 7, "important")
    assert (one.prompt_tokens, one.output_tokens) == (512.0, 200.0)
    assert (one.endpoints_total, one.candidates_total, one.removed) == (3, 2, {"draining": 1})
    # B was never scraped, and is priced as at its worst reasonable reading.
    assert (one.winner, one.runner_up) == (A, B)
    assert one.margin is not None
    assert one.margin > 0
    assert one.cost_unit == "s"
    assert one.reason == f"least cost by {one.margin * 1000:.3g} ms"
    first, second, third = one.candidates
    assert [c.address for c in one.candidates] == [A, B, C]
    assert [c.place for c in one.candidates] == [1, 2, 0]
    assert [c.removed_by for c in one.candidates] == ["", "", "draining"]
    assert (first.waiting, first.running, first.kv_usage_ratio) == (2.0, 5.0, 0.25)
    assert (first.metrics_age_s, second.metrics_age_s) == (0.5, None)
    assert (second.waiting, second.running, second.kv_usage_ratio) == (None, None, None)
    assert first.in_flight == 0, "its own charge came later"
    assert first.cost is not None
    assert second.cost is not None
    assert second.cost - first.cost == pytest.approx(one.margin)
    assert third.cost is None
    assert one.ended is not None
    assert (one.ended.how, one.ended.status, one.ended.endpoint) == ("complete", 200, A)
    assert (one.ended.ttft_s, one.ended.prompt_tokens, one.ended.cached_tokens) == (0.03, 500, 256)


async def test_charges_of_the_same_batch_are_seen(recording: Make) -> None:
    made = recording(1)
    made.say(*(filter_side.pick(stream, blocks=4, prompt_bytes=1024) for stream in (1, 2, 3)))
    found = (await made.ask(candidates_max=1)).explanations
    assert [one.candidates[0].in_flight for one in found] == [2, 1, 0]
    # The prompts are equal: the second and third match all but the last token.
    assert [one.candidates[0].pending_tokens for one in found] == [257, 256, 0]
    assert [one.candidates[0].matched_tokens for one in found] == [255.0, 255.0, 0.0]


async def test_filters_of_the_question(recording: Make) -> None:
    made = recording(2, policy="round-robin")
    made.say(*(filter_side.pick(stream) for stream in (1, 2, 3)))
    made.say(filter_side.pick(4, pool="default/other"))
    made.say(filter_side.done(2, endpoint="10.9.9.9:1"))

    async def ids(**conditions: object) -> list[str]:
        return [one.request_id[-1] for one in (await made.ask(**conditions)).explanations]

    assert await ids() == ["4", "3", "2", "1"]
    assert await ids(newest=2) == ["4", "3"]
    assert await ids(pool="default/pool", newest=2) == ["3", "2"]
    assert await ids(outcome="pool_not_found") == ["4"]
    assert await ids(endpoint=A) == ["3", "1"]
    assert await ids(endpoint="10.9.9.9:1") == ["2"], "who answered counts as well"
    assert await ids(request_id="request-3", endpoint=B) == []
    assert await ids(request_id="request-9") == []


async def test_terms_and_what_they_add(recording: Make) -> None:
    made = recording(2, policy="reference-default")
    for address, usage in ((A, 0.5), (B, 0.25)):
        made.layer.scraped(address, Reading(0.0, 1.0, usage), 0.0, 1_000.0)
    made.say(filter_side.pick(1))
    (one,) = (await made.ask(candidates_max=2)).explanations
    assert one.winner == B
    total = {c.address: c.cost for c in one.candidates}
    for candidate in one.candidates:
        parts = [term.cost for term in candidate.terms]
        assert sum(part for part in parts if part is not None) == pytest.approx(
            total[candidate.address]
        )


async def test_a_large_pool_tells_what_the_answer_named(recording: Make) -> None:
    made = recording(300, policy="least-request")
    made.say(filter_side.pick(1))
    made.say(filter_side.pick(2))
    (one, _) = (await made.ask(candidates_max=1_000)).explanations
    assert len(one.candidates) == 4
    assert [candidate.place for candidate in one.candidates] == [1, 2, 3, 4]
    assert [candidate.in_flight for candidate in one.candidates] == [0, 0, 0, 0]
    assert one.candidates[0].address == one.winner
    assert one.endpoints_total == 300


async def test_reach(recording: Make) -> None:
    made = recording()
    empty = (await made.ask()).reach
    assert (empty.recorded, empty.oldest_age_s, empty.forgotten) == (0, None, 0)
    made.say(filter_side.pick(1))
    made.now_s += 3.0
    reach = (await made.ask()).reach
    assert (reach.recorded, reach.oldest_age_s, reach.up_s) == (1, 3.0, 3.0)
    assert 0 < reach.bytes_used < reach.bytes_max


class ByLoad:
    def score(self, _request: Request, endpoints: Endpoints) -> Floats:
        score: Floats = 1.0 / (1.0 + endpoints.in_flight)
        return score


class Fixed:
    def score(self, _request: Request, endpoints: Endpoints) -> Floats:
        return np.array([0.2, 0.8, 0.0])[: len(endpoints)]


class FixedCost:
    """Has no unit."""

    def __init__(self, *values: float) -> None:
        self._values = np.array(values)

    def cost(self, *_: object) -> Floats:
        return self._values.copy()


class FixedSeconds(FixedCost):
    unit = "s"


@pytest.mark.parametrize(
    ("cost", "rows", "told"),
    [
        (FixedSeconds(0.1, 0.112, 0.5), [0, 1, 2], "least cost by 12 ms"),
        (FixedSeconds(0.2, 0.112, 0.5), [1, 0, 2], "prefix 50%, least cost by 88 ms"),
        (FixedCost(1.0, 2.5, 3.0), [0, 1, 2], "least cost by 1.5"),
        (FixedCost(1.0, 1.0, 1.0), [2, 0, 1], "drawn among equals"),
        (FixedCost(1.0, 2.0, 3.0), [1, 0, 2], "drawn by lowest-cost"),
        (FixedCost(1.0, 2.0, 3.0), [1], "only candidate"),
        (FixedCost(1.0, 2.0, 3.0), [], ""),
    ],
)
def test_reasons_of_one_cost(cost: FixedCost, rows: list[int], told: str) -> None:
    profile = Profile("p", [Term("cost", cost)])
    asked = request(3, prompt_tokens=100.0, matched_tokens=[0.0, 50.0, 0.0])
    raw = cost.cost()
    weighed = Weighed(asked, endpoints(3), raw, None, (), (raw,))
    assert reason(profile, weighed, rows) == told


def test_the_term_that_decides_is_the_reason() -> None:
    profile = Profile("p", [Term("load", ByLoad(), 1.0), Term("fixed", Fixed(), 2.0)])
    asked, state = request(3), endpoints(3, in_flight=[0.0, 1.0, 0.0])
    costs, terms = profile.rate(asked, state, 0, np.random.default_rng(1))
    weighed = Weighed(asked, state, costs, None, (), terms)
    assert reason(profile, weighed, [1, 0, 2]) == "fixed 0.8 against 0.2"


@pytest.mark.parametrize(("reason", "told"), [(True, "only candidate"), (False, "")])
def test_the_filter_is_told_why_where_the_pool_asks(
    recording: Make, reason: bool, told: str
) -> None:
    made = recording(1, pool=PoolExplainConfig(reason=reason))
    (answer,) = made.say(filter_side.pick(1))
    assert isinstance(answer, Answered)
    assert answer.reason == told


async def test_what_another_policy_would_have_chosen(recording: Make) -> None:
    made = recording(2)
    made.say(filter_side.pick(1, blocks=80, prompt_bytes=32 * 1_024))
    made.say(filter_side.first(1))
    made.say(filter_side.pick(2, blocks=80, prompt_bytes=32 * 1_024))
    made.say(filter_side.pick(3, pool="default/nobody"))
    unknown, second, first = (await made.ask(policy="least-request")).explanations
    assert second.winner == first.winner, "its prompt is there"
    assert second.would_be == ({A, B} - {first.winner}).pop(), "the other one had nothing to do"
    assert unknown.would_be == ""
    same = (await made.ask(policy="marginal-cost")).explanations[1]
    assert same.would_be == same.winner
    assert (await made.ask()).explanations[1].would_be == ""
    assert len(made.ring) == 3, "nothing is recorded of it"
    assert made.layer.pools["default/pool"].table.picks(0) in (0, 2), "nothing is counted"


async def test_of_a_large_pool_no_other_choice_can_be_told(recording: Make) -> None:
    made = recording(300)
    made.say(filter_side.pick(1))
    (one,) = (await made.ask(policy="random")).explanations
    assert one.would_be == ""
