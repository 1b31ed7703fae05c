"""From the engine mappings of an EndpointPickerConfig to what the picker is told of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.engine_config import EngineConfig, MetricConfig
from inferway.resources.picker_plugins.engine_mappings import metric_of

if TYPE_CHECKING:
    from inferway.resources import EndpointPickerConfig
    from inferway.resources.picker_plugins.engine_mappings import EngineMapping

# What the reference's info gauge calls them.
_BLOCK_SIZE, _NUM_BLOCKS = "block_size", "num_gpu_blocks"


def engine_configs(config: EndpointPickerConfig | None) -> tuple[EngineConfig, ...]:
    """The pool's own engines; empty: there are only those that are built in."""
    if config is None:
        return ()
    return tuple(_engine(one) for one in config.metrics_extractor.engine_configs)


def _engine(of: EngineMapping) -> EngineConfig:
    return EngineConfig(
        name=of.name,
        waiting=_metric(of.queued_requests_spec),
        running=_metric(of.running_requests_spec),
        kv_usage_ratio=_metric(of.kv_usage_spec),
        lora=_metric(of.lora_spec),
        block_size=_metric(of.cache_block_size_spec)
        or _metric(of.cache_info_spec, of.cache_block_size_label_name or _BLOCK_SIZE),
        num_blocks=_metric(of.cache_num_blocks_spec)
        or _metric(of.cache_info_spec, of.cache_num_blocks_label_name or _NUM_BLOCKS),
        attributes={
            one.attribute_key: MetricConfig(name=metric.name, labels=dict(metric.labels))
            for one in of.custom_metrics
            for metric in [metric_of(one.metric_spec)]
        },
    )


def _metric(spec: str, value_of: str = "") -> MetricConfig | None:
    if not spec:
        return None
    metric = metric_of(spec)
    return MetricConfig(name=metric.name, labels=dict(metric.labels), value_of=value_of)
