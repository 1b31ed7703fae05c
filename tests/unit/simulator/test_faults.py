"""Fault rules: decoding, matching, counting."""

import pytest

from inferway.simulator.faults import FaultPlan, FaultRule


def modes(plan: FaultPlan, path: str, times: int) -> list[str | None]:
    return [
        None if rule is None else rule.mode for rule in (plan.choose(path) for _ in range(times))
    ]


def test_without_a_path_only_the_api_is_hit() -> None:
    plan = FaultPlan([FaultRule("error")], seed=1)
    assert plan.choose("/v1/chat/completions") is not None
    assert plan.choose("/health") is None
    assert FaultPlan([FaultRule("error", path="*")], seed=1).choose("/metrics") is not None


def test_a_count_runs_out_and_the_next_rule_takes_over() -> None:
    plan = FaultPlan([FaultRule("reset", count=2), FaultRule("hang", path="/v1/a")], seed=1)
    assert modes(plan, "/v1/a", 3) == ["reset", "reset", "hang"]
    assert modes(plan, "/v1/b", 1) == [None]
    assert plan.hits == 3
    assert plan.to_json()["hits"] == 3


def test_probability_is_seeded() -> None:
    rule = FaultRule("error", probability=0.25)
    one, same = (modes(FaultPlan([rule], seed=7), "/v1/a", 400) for _ in range(2))
    assert one == same
    assert 70 <= one.count("error") <= 130


def test_none_means_no_fault_and_refusal_is_not_per_request() -> None:
    plan = FaultPlan([FaultRule("none"), FaultRule("refuse")], seed=1)
    assert plan.choose("/v1/a") is None
    assert plan.refusal is not None
    assert plan.refusal.mode == "refuse"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "missing field: mode"),
        ({"mode": "explode"}, "unknown fault mode: explode"),
        ({"mode": "error", "often": 1}, "unknown field: often"),
        ({"mode": "error", "status": 200}, "status must be 400 to 599: 200"),
        ({"mode": "error", "probability": 1.5}, "probability must be 0 to 1"),
        ({"mode": "error", "count": "3"}, "count must be a number"),
        ({"mode": "error", "count": True}, "count must be a number"),
        ({"mode": "error", "path": 3}, "path must be a string"),
        ({"mode": "cut_stream", "after_chunks": -1}, "after_chunks must not be negative"),
        ([], "a fault is an object"),
    ],
)
def test_bad_rules_are_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaultRule.from_json(value)


def test_the_command_line_form() -> None:
    assert FaultRule.from_text("reset") == FaultRule("reset")
    text = "cut_stream,after_chunks=5,probability=0.5,path=/v1/completions"
    assert FaultRule.from_text(text) == FaultRule(
        "cut_stream", path="/v1/completions", probability=0.5, after_chunks=5
    )
    with pytest.raises(ValueError, match="count must be a number: many"):
        FaultRule.from_text("reset,count=many")
