"""Batch formation and timing of the engine, step by step."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from inferway.simulator.engine import Engine
from inferway.simulator.parameters import EngineParameters, parameters_named
from inferway.simulator.sequences import EngineRequest, StepResult
from inferway.simulator.virtual_time import simulate

H100 = replace(parameters_named("llama-3-8b-h100"), jitter_sigma=0.0)


def request(
    name: str,
    prompt: int = 160,
    output: int = 4,
    *,
    hashes: Sequence[int] = (),
    adapter: str | None = None,
) -> EngineRequest:
    return EngineRequest(name, prompt, output, hashes, adapter)


def small(blocks: int = 20, **changes: Any) -> EngineParameters:
    """An engine without ingest time, so that each step can be followed."""
    return replace(
        H100, **{"num_blocks": blocks, "max_model_len": 16 * blocks, "ingest_s": 0.0, **changes}
    )


def run(engine: Engine, steps: int) -> list[StepResult]:
    return [engine.step(engine.now_s) for _ in range(steps)]


def admitted(result: StepResult) -> list[str]:
    return [event.subject for event in result.events if event.kind == "admitted"]


def test_an_idle_engine_rests() -> None:
    result = Engine(H100).step(5.0)
    assert (result.duration_s, result.tokens, result.finished) == (0.0, (), ())


def test_ingest_delays_the_first_step() -> None:
    engine = Engine(H100)
    engine.submit(request("a"), 1.0)
    idle = engine.step(1.0)
    assert idle.ended_s == pytest.approx(1.0 + H100.ingest_s)
    assert engine.step(idle.ended_s).tokens == [("a", 1)]


def test_first_token_comes_with_the_prompt_and_the_others_one_per_step() -> None:
    engine = Engine(small())
    engine.submit(request("a", output=3), 0.0)
    results = run(engine, 3)
    assert [result.tokens for result in results] == [[("a", 1)]] * 3
    assert results[0].prefill_tokens == 160
    assert [result.decode_sequences for result in results] == [0, 1, 1]
    end = results[2].finished[0]
    assert (end.output_tokens, end.first_token_s) == (3, results[0].ended_s)
    assert not engine.has_work


def test_durations_follow_the_formula() -> None:
    engine = Engine(small(400))
    engine.submit(request("a", 1000, 3), 0.0)
    prefill, decode = run(engine, 2)
    assert prefill.duration_s == pytest.approx(
        H100.step_s(prefill_tokens=1000, decode_tokens=0, attention_products=1000 * 500)
    )
    assert decode.duration_s == pytest.approx(
        H100.step_s(prefill_tokens=0, decode_tokens=1, context_tokens=1000)
    )


def test_a_long_prompt_is_cut_to_the_budget_and_shares_steps_with_decodes() -> None:
    engine = Engine(small(400, max_num_batched_tokens=512))
    engine.submit(request("short", 16, 10), 0.0)
    run(engine, 1)
    engine.submit(request("long", 1200, 2), engine.now_s)
    steps = run(engine, 3)
    assert [step.prefill_tokens for step in steps] == [511, 511, 178]
    assert [dict(step.tokens).get("short") for step in steps] == [1, 1, 1]
    assert dict(steps[2].tokens) == {"short": 1, "long": 1}


def test_the_long_prefill_threshold_leaves_room_for_others() -> None:
    engine = Engine(small(400, long_prefill_threshold=100))
    engine.submit(request("long", 250, 2), 0.0)
    engine.submit(request("next", 50, 2), 0.0)
    steps = run(engine, 3)
    assert [step.prefill_tokens for step in steps] == [150, 100, 50]
    assert [name for name, _ in steps[0].tokens] == ["next"]


def test_the_batch_is_bounded() -> None:
    engine = Engine(small(400, max_num_seqs=2))
    for name in "abc":
        engine.submit(request(name), 0.0)
    assert admitted(run(engine, 1)[0]) == ["a", "b"]
    assert (engine.num_running, engine.num_waiting) == (2, 1)


def test_the_head_of_the_line_blocks() -> None:
    engine = Engine(small(20))
    engine.submit(request("first", 160, 40), 0.0)
    engine.submit(request("big", 170, 4), 0.0)
    engine.submit(request("tiny", 16, 4), 0.0)
    assert admitted(run(engine, 1)[0]) == ["first"]
    assert engine.num_waiting == 2


def test_the_youngest_is_preempted_and_loses_nothing() -> None:
    engine = Engine(small(8))
    engine.submit(request("old", 48, 40), 0.0)
    engine.submit(request("young", 48, 40), 0.0)
    tokens = {"old": 0, "young": 0}
    preempted = []
    while engine.has_work:
        result = engine.step(engine.now_s)
        preempted += [event.subject for event in result.events if event.kind == "preempted"]
        for name, count in result.tokens:
            tokens[name] += count
        assert engine.blocks.referenced <= 8
    assert set(preempted) == {"young"}
    assert tokens == {"old": 40, "young": 40}
    assert engine.counters.preemptions == len(preempted)
    assert engine.blocks.referenced == 0


def test_nothing_is_admitted_in_a_step_that_preempts() -> None:
    engine = Engine(small(8))
    engine.submit(request("old", 48, 40), 0.0)
    engine.submit(request("young", 48, 40), 0.0)
    engine.submit(request("tiny", 16, 2), 0.0)
    for result in run(engine, 60):
        kinds = {event.kind for event in result.events}
        assert not {"preempted", "admitted"} <= kinds


def test_a_known_prompt_skips_its_prefill() -> None:
    engine = Engine(H100)
    hashes = list(range(500))
    cold = simulate(engine, [(0.0, request("a", 8000, 2, hashes=hashes))])[0]
    warm = simulate(engine, [(engine.now_s, request("b", 8000, 2, hashes=hashes))])[0]
    assert cold.finished.cached_tokens == 0
    assert warm.finished.cached_tokens == 7984  # at least one token is always computed
    assert warm.time_to_first_token_s < cold.time_to_first_token_s / 5
    assert engine.counters.prefix_hit_tokens == 7984
    assert engine.counters.prefix_query_tokens == 16000


def test_an_answer_is_cached_for_the_next_turn() -> None:
    engine = Engine(H100)
    hashes = list(range(30))
    simulate(engine, [(0.0, request("turn-1", 160, 161, hashes=hashes[:20]))])
    follow_up = request("turn-2", 400, 2, hashes=hashes[:25])
    assert simulate(engine, [(engine.now_s, follow_up)])[0].finished.cached_tokens == 320


def test_blocks_are_hittable_only_once_computed() -> None:
    engine = Engine(small(400, max_num_batched_tokens=64))
    hashes = list(range(20))
    engine.submit(request("a", 320, 2, hashes=hashes), 0.0)
    run(engine, 1)
    assert engine.blocks.match(hashes, 20) == 4
    run(engine, 1)
    assert engine.blocks.match(hashes, 20) == 8


def test_cancelling_frees_blocks_wherever_the_request_is() -> None:
    engine = Engine(small(20))
    engine.submit(request("running", 160, 40), 0.0)
    engine.submit(request("waiting", 200, 4), 0.0)
    run(engine, 1)
    engine.submit(request("ingesting"), engine.now_s + 9)
    for name in ("ingesting", "waiting", "running"):
        assert engine.cancel(name)
        assert not engine.cancel(name)
    assert not engine.has_work
    assert engine.blocks.referenced == 0
    assert engine.counters.finished["abort"] == 3


def test_impossible_requests_are_refused() -> None:
    engine = Engine(small(20))
    with pytest.raises(ValueError, match="exceed max_model_len 320"):
        engine.submit(request("a", 300, 21), 0.0)
    with pytest.raises(ValueError, match="at least one token"):
        engine.submit(request("a", 10, 0), 0.0)
    engine.submit(request("a"), 0.0)
    with pytest.raises(ValueError, match="id in use"):
        engine.submit(request("a"), 0.0)


def test_time_does_not_go_back() -> None:
    engine = Engine(small())
    engine.submit(request("a"), 0.0)
    run(engine, 1)
    with pytest.raises(ValueError, match="time goes back"):
        engine.step(0.0)


def test_an_adapter_is_loaded_before_its_first_request_and_blocks_the_line() -> None:
    engine = Engine(small(100))
    engine.submit(request("tuned", adapter="a"), 0.0)
    engine.submit(request("plain"), 0.0)
    loading = engine.step(0.0)
    assert [event.kind for event in loading.events] == ["adapter_loading"]
    assert loading.duration_s == pytest.approx(17.5e-3)
    assert admitted(engine.step(engine.now_s)) == ["tuned", "plain"]


def test_requests_without_an_adapter_slot_are_passed_over_in_order() -> None:
    engine = Engine(small(200, max_loras=1))
    engine.submit(request("a1", output=4, adapter="a"), 0.0)
    engine.step(0.0)
    engine.submit(request("b1", adapter="b"), engine.now_s)
    engine.submit(request("c1", adapter="c"), engine.now_s)
    engine.submit(request("a2", adapter="a"), engine.now_s)
    engine.submit(request("plain"), engine.now_s)
    assert admitted(engine.step(engine.now_s)) == ["a1", "a2", "plain"]
    assert dict(engine.adapters.waiting) == {"b": 1, "c": 1}
    order: list[str] = []
    while engine.has_work:
        order += [end.request_id for end in engine.step(engine.now_s).finished]
    assert order.index("b1") < order.index("c1")
    assert not engine.adapters.running
    assert not engine.adapters.waiting


def test_jitter_depends_on_the_seed_alone() -> None:
    def latencies(seed: int) -> list[float]:
        engine = Engine(parameters_named("llama-3-8b-h100"), seed=seed)
        arrivals = [(0.01 * i, request(str(i), 200, 20)) for i in range(20)]
        return [outcome.latency_s for outcome in simulate(engine, arrivals)]

    assert latencies(1) == latencies(1)
    assert latencies(1) != latencies(2)


def test_virtual_time_jumps_over_rests_and_is_bounded() -> None:
    outcomes = simulate(Engine(H100), [(0.0, request("a")), (3600.0, request("b"))])
    assert outcomes[1].finished.arrived_s == 3600.0
    assert outcomes[1].time_to_first_token_s < 1.0
    assert len(outcomes[0].token_times_s) == 4
    with pytest.raises(RuntimeError, match="not finished after 3 steps"):
        simulate(Engine(H100), [(0.0, request("a", 160, 100))], steps_max=3)


def test_prefill_of_one_disturbs_the_decoding_of_others() -> None:
    def worst_gap_s(arrivals: list[tuple[float, EngineRequest]]) -> float:
        for outcome in simulate(Engine(H100), arrivals):
            if outcome.finished.request_id == "steady":
                times = outcome.token_times_s
                return max(b - a for a, b in pairwise(times))
        raise AssertionError("steady is missing")

    alone = [(0.0, request("steady", 160, 50))]
    assert worst_gap_s(alone) < 0.01
    assert worst_gap_s([*alone, (0.1, request("burst", 8000, 2))]) > 0.2


def test_counters_add_up() -> None:
    engine = Engine(H100)
    simulate(engine, [(0.01 * i, request(str(i), 100, 10)) for i in range(5)])
    counters = engine.counters
    assert (counters.prompt_tokens, counters.generation_tokens) == (500, 50)
    assert counters.finished == {"stop": 0, "length": 5, "abort": 0}
    assert counters.time_to_first_token_s.count == counters.request_s.count == 5
    assert counters.inter_token_s.count == 45
    assert counters.iteration_tokens.total == 500 + 45
