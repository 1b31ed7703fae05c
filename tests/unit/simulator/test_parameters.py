"""The named sets against published figures, and the step formula against worked examples."""

import math
from dataclasses import replace
from typing import Any

import pytest

from inferway.simulator.parameters import (
    PARAMETER_SETS,
    EngineParameters,
    parameters_named,
)

# name: prefill tok/s, ITL of one sequence, of 64 with 2k context, of 256 with 1k (ms), KV read and
# attention (ns), KV capacity. The published ITL columns count the reading of weights only.
PUBLISHED = {
    "llama-3-8b-h100": (31e3, 7.7, 18, 29, 76, 1.3, 446e3),
    "llama-3-8b-a100": (9.7e3, 11.9, 28, 46, 125, 4.2, 446e3),
    "llama-3-8b-l4": (3.4e3, 60, None, None, 852, 10.8, 28e3),
    "qwen3-32b-2xh100": (16.6e3, 16, 26, 38, 76, 2.65, 318e3),
    "qwen3-32b-2xa100": (4.8e3, 25, 41, 59, 125, 8.4, 318e3),
    "llama-3-70b-4xh100": (14e3, 18, 24, 32, 48, 1.7, 479e3),
    "llama-3-70b-8xh100": (22e3, 11, 14, 19, 24, 0.8, 1.39e6),
    "llama-3-70b-4xa100": (4.4e3, 27, 38, 49, 78, 5.3, 479e3),
}


def memory_bound_ms(parameters: EngineParameters, sequences: int, context: int) -> float:
    """Inter-token latency when reading memory is all that matters."""
    unlimited = replace(parameters, prefill_tokens_per_s=math.inf)
    return 1e3 * unlimited.step_s(
        prefill_tokens=0, decode_tokens=sequences, context_tokens=sequences * context
    )


def test_every_published_engine_exists_and_one_that_costs_nothing() -> None:
    assert set(PARAMETER_SETS) == {*PUBLISHED, "instant"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_derived_columns_match_the_published_table(name: str) -> None:
    parameters = parameters_named(name)
    rate, one, many, full, kv_read, attention, capacity = PUBLISHED[name]
    assert parameters.prefill_tokens_per_s == pytest.approx(rate, rel=0.02)
    assert memory_bound_ms(parameters, 1, 0) == pytest.approx(one, rel=0.03)
    if many is not None and full is not None:
        assert memory_bound_ms(parameters, 64, 2000) == pytest.approx(many, abs=0.5)
        assert memory_bound_ms(parameters, 256, 1000) == pytest.approx(full, abs=0.5)
    assert parameters.kv_read_s * 1e9 == pytest.approx(kv_read, rel=0.01)
    assert parameters.attention_s * 1e9 == pytest.approx(attention, rel=0.05)
    assert parameters.capacity_tokens == pytest.approx(capacity, rel=0.005)


def test_a_prompt_costs_compute_and_quadratic_attention() -> None:
    parameters = parameters_named("llama-3-8b-h100")
    step_s = parameters.step_s(
        prefill_tokens=8192, decode_tokens=0, attention_products=8192 * (8192 / 2)
    )
    # 8192 / 30 791 tok/s = 266 ms, attention 1.325 ns · 33.6 M = 44.5 ms, fixed 1.15 ms
    assert step_s == pytest.approx(0.2660 + 0.0445 + 0.00115, rel=0.002)


def test_prefill_hides_behind_the_reading_of_weights_until_it_is_longer() -> None:
    parameters = parameters_named("llama-3-8b-h100")
    decode_only = parameters.step_s(prefill_tokens=0, decode_tokens=8, context_tokens=8000)
    hidden = parameters.step_s(prefill_tokens=150, decode_tokens=8, context_tokens=8000)
    visible = parameters.step_s(prefill_tokens=2000, decode_tokens=8, context_tokens=8000)
    assert hidden == decode_only
    assert visible > 5 * decode_only


def test_adapters_cost_time_per_step_and_to_load() -> None:
    parameters = parameters_named("llama-3-8b-h100")
    plain = parameters.step_s(prefill_tokens=0, decode_tokens=2)
    assert parameters.step_s(prefill_tokens=0, decode_tokens=2, adapters=2) == pytest.approx(
        plain + 100e-6
    )
    assert parameters.lora_load_s(in_host_memory=False) == pytest.approx(17.5e-3)
    assert parameters.lora_load_s(in_host_memory=True) < 3e-3


def test_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown engine: gpt-9 .*llama-3-8b-h100"):
        parameters_named("gpt-9")


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_blocks", 0), ("max_num_seqs", -1), ("max_num_batched_tokens", 0), ("max_loras", 0)],
)
def test_limits_below_one_are_refused(field: str, value: int) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"{field} must be above 0"):
        replace(parameters_named("llama-3-8b-l4"), **changes)


def test_a_context_longer_than_the_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="could never run"):
        replace(parameters_named("llama-3-8b-l4"), max_model_len=131_072)
