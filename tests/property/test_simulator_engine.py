"""Engine invariants under arbitrary mixes of requests, cancellations and limits."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.simulator.engine import Engine
from inferway.simulator.parameters import EngineParameters, parameters_named
from inferway.simulator.sequences import EngineRequest, StepResult

BLOCKS = 24
STEPS_MAX = 20_000


@st.composite
def engines(draw: st.DrawFn) -> EngineParameters:
    return replace(
        parameters_named("llama-3-8b-h100"),
        num_blocks=BLOCKS,
        max_model_len=16 * BLOCKS,
        max_num_seqs=draw(st.integers(1, 6)),
        max_num_batched_tokens=draw(st.integers(1, 300)),
        long_prefill_threshold=draw(st.sampled_from([0, 7, 64])),
        decode_tokens_per_step=draw(st.sampled_from([1, 1, 3])),
        max_loras=draw(st.integers(1, 2)),
        max_cpu_loras=2,
        ingest_s=draw(st.sampled_from([0.0, 0.015])),
    )


@dataclass(frozen=True)
class Arrival:
    at_s: float
    request: EngineRequest
    cancelled_after_steps: int | None


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    """Requests over a few shared prefixes; some are cancelled."""
    result = []
    for number in range(draw(st.integers(1, 12))):
        prompt = draw(st.integers(1, 200))
        output = draw(st.integers(1, 60))
        prefix = draw(st.integers(0, 2))
        own_from = draw(st.integers(0, 12))
        hashes = [
            1000 * prefix + index if index < own_from else 10_000 + 100 * number + index
            for index in range((prompt + output) // 16)
        ]
        result.append(
            Arrival(
                at_s=draw(st.floats(0, 0.5)),
                request=EngineRequest(
                    str(number),
                    prompt,
                    output,
                    hashes,
                    draw(st.sampled_from([None, None, "a", "b", "c"])),
                ),
                cancelled_after_steps=draw(st.none() | st.none() | st.integers(0, 40)),
            )
        )
    return sorted(result, key=lambda arrival: arrival.at_s)


@dataclass
class Observed:
    tokens: dict[str, int] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    steps: list[StepResult] = field(default_factory=list)


def check_step(engine: Engine, result: StepResult, before_s: float, hits: int) -> None:
    assert result.started_s >= before_s
    assert result.duration_s >= 0
    assert engine.now_s >= result.started_s
    blocks = engine.blocks
    assert 0 <= blocks.referenced <= blocks.total
    assert blocks.referenced + blocks.idle <= blocks.total
    assert engine.num_running <= engine.parameters.max_num_seqs
    assert engine.counters.prefix_hit_tokens >= hits
    assert engine.counters.prefix_hit_tokens <= engine.counters.prefix_query_tokens
    tokens = sum(count for _, count in result.tokens)
    budget = engine.parameters.max_num_batched_tokens
    assert result.prefill_tokens + result.decode_sequences <= budget
    assert tokens <= budget + engine.num_running + len(result.finished)
    assert len(engine.adapters.running) <= engine.parameters.max_loras
    assert set(engine.adapters.running) <= set(engine.adapters.resident)


def drive(
    parameters: EngineParameters, schedule: list[Arrival], seed: int
) -> tuple[Engine, Observed]:
    engine = Engine(parameters, seed=seed)
    observed = Observed()
    pending = list(schedule)
    now_s = 0.0
    for step in range(STEPS_MAX):
        if not engine.has_work:
            if not pending:
                return engine, observed
            now_s = max(now_s, pending[0].at_s)
        while pending and pending[0].at_s <= now_s:
            arrival = pending.pop(0)
            engine.submit(arrival.request, arrival.at_s)
            observed.tokens[arrival.request.request_id] = 0
        for arrival in schedule:
            name = arrival.request.request_id
            if arrival.cancelled_after_steps == step and engine.cancel(name):
                observed.cancelled.append(name)
        before_s, hits = engine.now_s, engine.counters.prefix_hit_tokens
        result = engine.step(now_s)
        check_step(engine, result, before_s, hits)
        now_s = result.ended_s
        for name, count in result.tokens:
            observed.tokens[name] += count
        observed.finished += [end.request_id for end in result.finished]
        observed.steps.append(result)
    raise AssertionError("the engine does not come to an end")


@settings(max_examples=150, deadline=None)
@given(engines(), arrivals(), st.integers(0, 3))
def test_invariants(parameters: EngineParameters, schedule: list[Arrival], seed: int) -> None:
    engine, observed = drive(parameters, schedule, seed)
    assert len(observed.finished) == len(set(observed.finished))
    assert not set(observed.finished) & set(observed.cancelled)
    assert len(observed.finished) + len(observed.cancelled) == len(schedule)
    for arrival in schedule:
        name = arrival.request.request_id
        if name in observed.finished:
            assert observed.tokens[name] == arrival.request.output_tokens
        else:
            assert observed.tokens[name] <= arrival.request.output_tokens
    assert engine.blocks.referenced == 0
    assert not engine.adapters.running
    assert not engine.adapters.waiting
    assert engine.counters.generation_tokens == sum(observed.tokens.values())
    assert sum(engine.counters.finished.values()) == len(schedule)


@settings(max_examples=30, deadline=None)
@given(engines(), arrivals(), st.integers(0, 3))
def test_the_same_seed_gives_the_same_run(
    parameters: EngineParameters, schedule: list[Arrival], seed: int
) -> None:
    _, one = drive(parameters, schedule, seed)
    _, other = drive(parameters, schedule, seed)
    assert one.steps == other.steps
