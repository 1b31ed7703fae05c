"""Every engine's page gives the same reading; what is absent stays unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway.picker.datalayer.engines import ENGINES, LoraReading, Reading, engine, read

if TYPE_CHECKING:
    from collections.abc import Callable

VLLM = """
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="llama"} 7.0
vllm:num_requests_waiting{model_name="llama"} 3.0
vllm:kv_cache_usage_perc{model_name="llama"} 0.25
vllm:cache_config_info{block_size="16",num_gpu_blocks="2000",cache_dtype="auto"} 1.0
vllm:prompt_tokens_total{model_name="llama"} 12345
process_start_time_seconds 1.7e9
"""
PAGES = {
    "vllm": VLLM,
    "sglang": """
sglang:num_running_reqs 7
sglang:num_queue_reqs 3
sglang:token_usage 0.25
sglang:cache_config_info{page_size="16",num_pages="2000"} 1
""",
    "trtllm-serve": """
trtllm_num_requests_running 7
trtllm_num_requests_waiting 3
trtllm_kv_cache_utilization 0.25
trtllm_kv_cache_tokens_per_block 16
trtllm_kv_cache_max_blocks 2000
""",
    "triton-tensorrt-llm": """
nv_trt_llm_request_metrics{request_type="scheduled"} 7
nv_trt_llm_request_metrics{request_type="waiting"} 3
nv_trt_llm_request_metrics{request_type="active"} 99
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"} 0.25
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per"} 16
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max"} 2000
""",
}


@pytest.fixture
def reading(parse: Callable[..., object]) -> Callable[..., Reading]:
    def make(page: str, name: str = "vllm") -> Reading:
        return read(engine(name), parse(page.encode(), engine(name).names()))  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize("name", PAGES)
def test_every_engine_says_the_same(reading: Callable[..., Reading], name: str) -> None:
    found = reading(PAGES[name], name)
    assert (found.waiting, found.running, found.kv_usage_ratio) == (3.0, 7.0, 0.25)
    assert (found.block_size, found.num_blocks, found.cache_tokens) == (16, 2000, 32_000)


@pytest.mark.parametrize("name", ENGINES)
def test_an_empty_page_says_nothing(reading: Callable[..., Reading], name: str) -> None:
    assert reading("", name) == Reading()


def test_restart_marks(reading: Callable[..., Reading]) -> None:
    assert (reading(VLLM).started_at_s, reading(VLLM).progress) == (1.7e9, 12345.0)


def test_the_older_name_of_vllm_cache_usage(reading: Callable[..., Reading]) -> None:
    assert reading("vllm:gpu_cache_usage_perc 0.5").kv_usage_ratio == 0.5
    both = "vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.6"
    assert reading(both).kv_usage_ratio == 0.6


def test_data_parallel_ranks_are_added_up_and_usage_averaged(
    reading: Callable[..., Reading],
) -> None:
    page = "\n".join(
        f'vllm:num_requests_waiting{{engine="{rank}"}} {rank + 1}\n'
        f'vllm:kv_cache_usage_perc{{engine="{rank}"}} {rank * 0.5}\n'
        f'vllm:cache_config_info{{engine="{rank}",block_size="16",num_gpu_blocks="100"}} 1'
        for rank in (0, 1)
    )
    found = reading(page)
    assert (found.waiting, found.kv_usage_ratio, found.cache_tokens) == (3.0, 0.25, 3200)


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf"])
def test_values_that_cannot_be_are_unknown(reading: Callable[..., Reading], value: str) -> None:
    page = f"vllm:num_requests_waiting {value}\nvllm:kv_cache_usage_perc {value}"
    assert reading(page) == Reading()


def test_a_ratio_above_one_is_unknown(reading: Callable[..., Reading]) -> None:
    assert reading("vllm:kv_cache_usage_perc 55").kv_usage_ratio is None


@pytest.mark.parametrize("blocks", ["None", "", "0", "nan"])
def test_cache_labels_that_are_no_numbers_are_unknown(
    reading: Callable[..., Reading], blocks: str
) -> None:
    page = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{blocks}"}} 1'
    assert reading(page).cache_tokens is None


def test_the_newest_adapter_sample_wins(reading: Callable[..., Reading]) -> None:
    page = """
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 100.5
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a, b",waiting_lora_adapters="b,c"} 300.5
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 200.5
"""
    assert reading(page).lora == LoraReading(frozenset("ab"), frozenset("bc"), 4)


def test_an_adapter_gauge_without_adapters(reading: Callable[..., Reading]) -> None:
    page = 'vllm:lora_requests_info{max_lora="x",running_lora_adapters=""} 1'
    assert reading(page).lora == LoraReading(frozenset(), frozenset(), None)


def test_only_listed_names_are_asked_for() -> None:
    assert "vllm:gpu_cache_usage_perc" in engine("vllm").names()
    assert "" not in engine("sglang").names()


def test_an_unknown_engine_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="'jetstream'; known: vllm, sglang"):
        engine("jetstream")


def test_plain_triton_tells_its_queue_alone(reading: Callable[..., Reading]) -> None:
    """What it has executed is a count of all since its start: progress, not load."""
    page = """
nv_inference_pending_request_count{model="a",version="1"} 3
nv_inference_pending_request_count{model="b",version="1"} 1
nv_inference_exec_count{model="a",version="1"} 123456
"""
    assert reading(page, "triton") == Reading(waiting=4.0, progress=123456.0)
    assert set(ENGINES) == {*PAGES, "triton"}


def test_adapters_that_are_loaded(reading: Callable[..., Reading]) -> None:
    page = """
vllm:lora_adapter_loaded{adapter_name="a",level="gpu",pinned="false",rank="16"} 1
vllm:lora_adapter_loaded{adapter_name="b",level="cpu",pinned="false",rank="16"} 1
vllm:lora_adapter_loaded{adapter_name="c",level="gpu",pinned="false",rank="16"} 0
vllm:max_gpu_lora_adapters 4
"""
    nothing: frozenset[str] = frozenset()
    expected = LoraReading(nothing, nothing, 4, frozenset({"a"}))
    assert reading(VLLM + page).lora == expected
    gauge = 'vllm:lora_requests_info{running_lora_adapters="c",max_lora="2"} 1e9\n'
    both = LoraReading(frozenset({"c"}), nothing, 2, frozenset({"a"}))
    assert reading(VLLM + page + gauge).lora == both
    assert reading(VLLM).lora is None
