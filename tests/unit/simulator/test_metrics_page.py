"""The metrics page as a Prometheus client reads it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inferway.simulator.counters import Histogram, one_two_five
from inferway.simulator.engine import Engine
from inferway.simulator.metrics_page import MetricsPage
from inferway.simulator.parameters import parameters_named
from inferway.simulator.sequences import EngineRequest
from inferway.simulator.virtual_time import simulate

HISTOGRAMS = [
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_inference_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "request_params_max_tokens",
    "iteration_tokens_total",
]
PLAIN = [
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "gpu_cache_usage_perc",
    "num_preemptions_total",
    "prompt_tokens_total",
    "generation_tokens_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "request_success_total",
    "cache_config_info",
]

Samples = dict[str, list[tuple[dict[str, str], float]]]


def samples(page: bytes) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture
def engine() -> Engine:
    return Engine(parameters_named("llama-3-8b-h100"))


def test_every_name_is_there_before_the_first_request(engine: Engine) -> None:
    found = samples(MetricsPage(engine, "m").render(1.0))
    expected = {f"vllm:{name}" for name in PLAIN}
    expected |= {
        f"vllm:{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")
    }
    assert set(found) == expected
    labels, blocks = found["vllm:cache_config_info"][0]
    assert (labels["block_size"], labels["num_gpu_blocks"], blocks) == ("16", "27866", 1.0)


def test_values_are_those_of_the_engine(engine: Engine) -> None:
    simulate(engine, [(0.0, EngineRequest(str(i), 100, 10, max_tokens=10)) for i in range(3)])
    engine.submit(EngineRequest("open", 3200, 10), engine.now_s)
    engine.submit(EngineRequest("later", 16, 10), engine.now_s + 9)
    engine.step(engine.now_s)
    engine.step(engine.now_s)
    found = samples(MetricsPage(engine, "m").render(1.0))

    def value(name: str) -> float:
        return found[f"vllm:{name}"][0][1]

    assert (value("num_requests_running"), value("num_requests_waiting")) == (1, 1)
    assert value("kv_cache_usage_perc") == pytest.approx(200 / 27866)
    assert value("generation_tokens_total") == 31
    assert value("e2e_request_latency_seconds_count") == 3
    assert value("request_prompt_tokens_sum") == 300
    assert value("request_params_max_tokens_count") == 3
    by_reason = {labels["finished_reason"]: v for labels, v in found["vllm:request_success_total"]}
    assert by_reason == {"stop": 0, "length": 3, "abort": 0}
    assert found["vllm:num_requests_running"][0][0] == {"engine": "0", "model_name": "m"}


def test_buckets_are_cumulative(engine: Engine) -> None:
    simulate(engine, [(0.0, EngineRequest("a", 100, 10))])
    found = samples(MetricsPage(engine, "m").render(1.0))
    for name in HISTOGRAMS:
        buckets = [value for _, value in found[f"vllm:{name}_bucket"]]
        assert buckets == sorted(buckets)
        assert buckets[-1] == found[f"vllm:{name}_count"][0][1]
        assert found[f"vllm:{name}_bucket"][-1][0]["le"] == "+Inf"


def test_model_names_are_escaped(engine: Engine) -> None:
    name = 'odd "name" 100%s \\ with\nall'
    found = samples(MetricsPage(engine, name).render(1.0))
    assert found["vllm:num_requests_running"][0][0]["model_name"] == name


def test_lora_series_appear_with_the_first_adapter_and_the_newest_counts(engine: Engine) -> None:
    page = MetricsPage(engine, "m")
    assert "vllm:lora_requests_info" not in samples(page.render(1.0))
    engine.submit(EngineRequest("1", 100, 10, adapter="b"), 0.0)
    engine.submit(EngineRequest("2", 100, 10, adapter="a"), 0.0)
    waiting = samples(page.render(2.0))["vllm:lora_requests_info"]
    assert waiting == [
        (
            {"max_lora": "4", "running_lora_adapters": "", "waiting_lora_adapters": "a,b"},
            2.0,
        )
    ]
    while engine.has_work:
        engine.step(engine.now_s)
    after = samples(page.render(3.0))["vllm:lora_requests_info"]
    newest = max(after, key=lambda sample: sample[1])
    assert newest == (
        {"max_lora": "4", "running_lora_adapters": "", "waiting_lora_adapters": ""},
        3.0,
    )
    assert len(after) == 2


def test_lora_series_are_bounded(engine: Engine) -> None:
    page = MetricsPage(engine, "m")
    for number in range(40):
        engine.submit(EngineRequest(str(number), 16, 2, adapter=f"a{number}"), 0.0)
        page.render(float(number))
    assert len(samples(page.render(40.0))["vllm:lora_requests_info"]) == 16


def test_an_upper_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1, 5))
    for value in (0.5, 1, 1.5, 5, 6):
        histogram.observe(value)
    histogram.observe(2, times=3)
    assert histogram.cumulative() == [2, 7, 8]
    assert (histogram.count, histogram.total) == (8, 20)


def test_token_buckets() -> None:
    assert one_two_five(120) == (1, 2, 5, 10, 20, 50, 100)
