"""What the picker is told of a configuration's engine mappings."""

from __future__ import annotations

from inferway.control.engine_settings import engine_configs
from inferway.picker.engine_config import EngineConfig, MetricConfig
from inferway.resources import EndpointPickerConfig


def told(*engines: dict[str, object]) -> tuple[EngineConfig, ...]:
    plugin = {"type": "core-metrics-extractor", "parameters": {"engineConfigs": [*engines]}}
    return engine_configs(
        EndpointPickerConfig.model_validate({"metadata": {"name": "one"}, "plugins": [plugin]})
    )


def test_nothing_is_mapped() -> None:
    plugins = [{"type": "core-metrics-extractor"}, {"type": "queue-scorer"}]
    config = {"metadata": {"name": "one"}, "plugins": plugins}
    assert engine_configs(None) == ()
    assert engine_configs(EndpointPickerConfig.model_validate(config)) == ()
    empty = {"name": "mine", "loraSpec": "", "cacheInfoSpec": None, "customMetrics": None}
    assert told(empty) == (EngineConfig(name="mine"),)


def test_every_fact_has_its_metric() -> None:
    spec = {
        "name": "mine",
        "queuedRequestsSpec": "requests{state=waiting}",
        "runningRequestsSpec": "requests{state=running}",
        "kvUsageSpec": "usage",
        "loraSpec": "lora",
        "cacheBlockSizeSpec": "size",
        "cacheNumBlocksSpec": "blocks",
        "customMetrics": [{"attributeKey": "heat", "metricSpec": "celsius{of=gpu}"}],
    }
    assert told(spec) == (
        EngineConfig(
            name="mine",
            waiting=MetricConfig(name="requests", labels={"state": "waiting"}),
            running=MetricConfig(name="requests", labels={"state": "running"}),
            kv_usage_ratio=MetricConfig(name="usage"),
            lora=MetricConfig(name="lora"),
            block_size=MetricConfig(name="size"),
            num_blocks=MetricConfig(name="blocks"),
            attributes={"heat": MetricConfig(name="celsius", labels={"of": "gpu"})},
        ),
    )


def test_labels_of_the_cache_gauge_have_the_references_names_unless_told() -> None:
    [one] = told({"name": "a", "cacheInfoSpec": "info{role=gpu}", "cacheBlockSizeLabelName": "s"})
    role = {"role": "gpu"}
    assert one.block_size == MetricConfig(name="info", labels=role, value_of="s")
    assert one.num_blocks == MetricConfig(name="info", labels=role, value_of="num_gpu_blocks")
    [two] = told({"name": "a", "cacheInfoSpec": "info", "cacheBlockSizeSpec": "size"})
    assert two.block_size == MetricConfig(name="size")
