"""Engines of a pool's own: how a page is read by them, and which pool's mapping counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.config import EndpointConfig, PoolConfig
from inferway.picker.datalayer.engine_mappings import attribute_keys, endpoint_metrics
from inferway.picker.datalayer.engines import ENGINES, LoraReading, Reading, Sample, read
from inferway.picker.engine_config import EngineConfig, MetricConfig

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = """
requests{state="waiting",model="a"} 2
requests{state="waiting",model="b"} 1
requests{state="running",model="a"} 7
usage 0.25
cache{size="16",count="2000"} 1
cache{size="8",count="9"} NaN
lora{running_lora_adapters="x",max_lora="4",rank="0"} 5
lora{running_lora_adapters="y",max_lora="4",rank="1"} 6
heat{of="gpu"} -4.5
heat{of="gpu"} 1.5
heat{of="cpu"} 90
broken NaN
vllm:num_requests_waiting 5
vllm:prompt_tokens_total 9
"""


def metric(name: str, value_of: str = "", **labels: str) -> MetricConfig:
    return MetricConfig(name=name, labels=labels, value_of=value_of)


MINE = EngineConfig(
    name="mine",
    waiting=metric("requests", state="waiting"),
    running=metric("requests", state="running"),
    kv_usage_ratio=metric("usage"),
    lora=metric("lora", rank="0"),
    block_size=metric("cache", "size", size="16"),
    num_blocks=metric("cache", "count", size="16"),
    attributes={
        "heat": metric("heat", of="gpu"),
        "broken": metric("broken"),
        "absent": metric("absent"),
    },
)


def pool(name: str, address: str, engine: str, *engines: EngineConfig) -> PoolConfig:
    endpoint = EndpointConfig(address=address, server="s", engine=engine, metrics_path=f"/{name}")
    return PoolConfig(name=name, endpoints=(endpoint,), engines=engines)


def reading(parse: Callable[..., object], *pools: PoolConfig) -> Reading:
    metrics, _ = endpoint_metrics(pools)["a:1"]
    return read(metrics, parse(PAGE.encode(), metrics.names()))  # type: ignore[arg-type]


def test_a_page_of_an_own_engine(parse: Callable[..., object]) -> None:
    assert reading(parse, pool("p", "a:1", "mine", MINE)) == Reading(
        waiting=3.0,
        running=7.0,
        kv_usage_ratio=0.25,
        block_size=16,
        num_blocks=2000,
        lora=LoraReading(frozenset({"x"}), frozenset(), 4),
        attributes={"heat": -3.0},
    )


def test_what_is_not_mapped_is_as_in_the_built_in_engine(parse: Callable[..., object]) -> None:
    vllm = EngineConfig(name="vllm", running=metric("requests"), attributes={"u": metric("usage")})
    found = reading(parse, pool("p", "a:1", "vllm", vllm))
    assert (found.waiting, found.running, found.progress) == (5.0, 10.0, 9.0)
    assert found.attributes == {"u": 0.25}
    assert reading(parse, pool("p", "a:1", "new", EngineConfig(name="new"))) == Reading()


def test_without_a_mapping_of_its_engine_an_endpoint_is_read_as_ever() -> None:
    found = endpoint_metrics([pool("p", "a:1", "sglang", MINE), pool("q", "b:1", "vllm")])
    assert found == {"a:1": (ENGINES["sglang"], "/p"), "b:1": (ENGINES["vllm"], "/q")}


def test_in_several_pools_the_first_that_maps_counts_and_custom_metrics_of_all_are_read() -> None:
    first = EngineConfig(name="x", waiting=metric("w1"), attributes={"k": metric("k1")})
    second = EngineConfig(
        name="y", waiting=metric("w2"), attributes={"k": metric("k2"), "l": metric("l2")}
    )
    pools = [
        pool("p", "a:1", "vllm"),
        pool("q", "a:1", "x", first),
        pool("r", "a:1", "y", second),
    ]
    metrics, path = endpoint_metrics(pools)["a:1"]
    assert (metrics.waiting, path) == (Sample("w1"), "/q")
    assert dict(metrics.attributes) == {"k": Sample("k1"), "l": Sample("l2")}


def test_a_pool_has_the_keys_of_all_its_engines() -> None:
    other = EngineConfig(name="other", attributes={"heat": metric("h"), "cold": metric("c")})
    keys = attribute_keys(pool("p", "a:1", "mine", MINE, other))
    assert keys == ("heat", "broken", "absent", "cold")
    assert attribute_keys(pool("p", "a:1", "vllm")) == ()
