"""Which metrics each endpoint is read by, where pools have engines of their own.

Problem: a pool may map an engine as it likes, and an address may stand in several pools, but its
page is read once. Model: the first pool that maps the endpoint's engine says what its metrics are
called, without one the built-in engine does; further values of all its pools are read, and for
equal keys the first pool's counts. Invariant: what a mapping leaves out is as in the built-in
engine of the same name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from inferway.picker.datalayer.engines import ENGINES, EngineMetrics, Label, Sample, engine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.picker.config import PoolConfig
    from inferway.picker.engine_config import EngineConfig, MetricConfig


def attribute_keys(pool: PoolConfig) -> tuple[str, ...]:
    """Of all further values that endpoints of the pool may have."""
    return tuple(dict.fromkeys(key for one in pool.engines for key in one.attributes))


def endpoint_metrics(pools: Iterable[PoolConfig]) -> dict[str, tuple[EngineMetrics, str]]:
    """By address: what its metrics are called, and the path of the page. ValueError when an engine
    is not known.
    """
    mapped: dict[str, tuple[EngineMetrics, str]] = {}
    others: dict[str, tuple[EngineMetrics, str]] = {}
    for pool in pools:
        own = {one.name: _metrics(one) for one in pool.engines}
        for endpoint in pool.endpoints:
            address, metrics = endpoint.address, own.get(endpoint.engine)
            if metrics is None:
                others.setdefault(address, (engine(endpoint.engine), endpoint.metrics_path))
            elif address not in mapped:
                mapped[address] = metrics, endpoint.metrics_path
            else:
                first, path = mapped[address]
                merged = {**dict(metrics.attributes), **dict(first.attributes)}
                mapped[address] = replace(first, attributes=tuple(merged.items())), path
    return others | mapped


def _metrics(config: EngineConfig) -> EngineMetrics:
    base = ENGINES.get(config.name, EngineMetrics())
    usage = config.kv_usage_ratio
    return replace(
        base,
        waiting=_sample(config.waiting) or base.waiting,
        running=_sample(config.running) or base.running,
        kv_usage_ratio=base.kv_usage_ratio if usage is None else (_of(usage),),
        lora=_sample(config.lora) or base.lora,
        block_size=_source(config.block_size) or base.block_size,
        num_blocks=_source(config.num_blocks) or base.num_blocks,
        attributes=tuple((key, _of(metric)) for key, metric in config.attributes.items()),
    )


def _of(metric: MetricConfig) -> Sample:
    return Sample(metric.name, tuple(metric.labels.items()))


def _sample(metric: MetricConfig | None) -> Sample | None:
    return None if metric is None else _of(metric)


def _source(metric: MetricConfig | None) -> Sample | Label | None:
    if metric is None or not metric.value_of:
        return _sample(metric)
    return Label(metric.name, metric.value_of, tuple(metric.labels.items()))
