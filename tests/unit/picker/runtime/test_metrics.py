"""Counters and the page made of them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inferway._native import Done, FrameReader, PrefixIndex, hash_seed
from inferway.picker.config import EndpointStatus, PickerStatus, PoolStatus
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.exposition import Sources, families, render
from inferway.picker.metrics import (
    FIRST_TOKEN_SECONDS,
    OUTPUT_TOKENS,
    TOKENS,
    Histogram,
    ModelCounters,
    PickerMetrics,
    PoolCounters,
)
from inferway.picker.outcome import OUTCOMES
from inferway.picker.protocol import filter_side

GOLDEN = Path(__file__).parents[3] / "golden" / "metric_names.txt"


class Index:
    def __len__(self) -> int:
        return 12

    def memory_bytes(self) -> int:
        return 3_456


class Followed:
    publishers, connected, strange, slices_full = 3, 2, 1, 4

    def sequence_counts(self) -> tuple[int, int, int]:
        return 7, 6, 5


def sources(metrics: PickerMetrics, *endpoints: EndpointStatus) -> Sources:
    pools = (PoolStatus(name="default/pool", endpoints=endpoints),)
    layer = DataLayer(PrefixIndex(1), hash_seed)
    status = PickerStatus(version=4, pools=pools)
    return Sources(metrics, status, Index(), 5, (layer.kv_events, Followed()), {})


def endpoint(address: str, **known: float) -> EndpointStatus:
    return EndpointStatus.model_validate(
        {"address": address, "reachable": None, "age_s": None, **known}
    )


def ended(**values: object) -> Done:
    (frame,) = FrameReader().feed(filter_side.done(1, **values))  # type: ignore[arg-type]
    assert isinstance(frame, Done)
    return frame


async def page(metrics: PickerMetrics, *endpoints: EndpointStatus) -> dict[str, float]:
    """Every sample of the page by name and sorted labels."""
    text = await render(sources(metrics, *endpoints), lambda: 0.0)
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_names_are_golden() -> None:
    lines = []
    for family in families(sources(PickerMetrics())):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ",".join(family._labelnames)  # type: ignore[attr-defined]
        lines.append(f"{name} {family.type} {labels}".rstrip())
    assert len(lines) == len(set(lines))
    text = "\n".join(sorted(lines)) + "\n"
    if os.environ.get("INFERWAY_GOLDEN") == "refresh":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "if the change is meant: make golden, and read the diff"


def test_bucket_bounds_ascend() -> None:
    for bounds in (FIRST_TOKEN_SECONDS, TOKENS, OUTPUT_TOKENS):
        assert list(bounds) == sorted(set(bounds))
    assert FIRST_TOKEN_SECONDS[-1] == 120
    assert 32_778 in TOKENS


def test_histogram_counts_each_bound_in_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 14.0
    assert len(histogram) == 5


def test_every_request_of_a_batch_waited_for_all_of_it() -> None:
    metrics = PickerMetrics()
    metrics.batch(3, 0.0001)
    metrics.batch(1, 1.0)
    assert metrics.decision_seconds.counts[3] == 1
    assert metrics.request_decision_seconds.counts[3] == 3
    assert metrics.request_decision_seconds.counts[-1] == 1
    assert metrics.decision_seconds.total == pytest.approx(1.0001)
    assert metrics.request_decision_seconds.total == pytest.approx(1.0003)
    assert metrics.batch_requests.total == 4.0


async def test_histograms_are_cumulative_on_the_page() -> None:
    metrics = PickerMetrics()
    metrics.batch(4, 0.00003)
    got = await page(metrics)
    assert got["inferway_decision_seconds_bucket le=2e-05"] == 0
    assert got["inferway_decision_seconds_bucket le=5e-05"] == 1
    assert got["inferway_decision_seconds_bucket le=+Inf"] == 1
    assert got["inferway_decision_batch_requests_sum"] == 4
    assert got["llm_d_epp_scheduler_e2e_duration_seconds_count"] == 4


async def test_unknown_has_no_sample() -> None:
    got = await page(PickerMetrics(), endpoint("a:1"), endpoint("b:1", waiting=4.0, age_s=0.5))
    label = "endpoint={} pool=default/pool"
    assert "inferway_endpoint_waiting_requests " + label.format("a:1") not in got
    assert got["inferway_endpoint_waiting_requests " + label.format("b:1")] == 4
    assert got["inferway_endpoint_metrics_age_seconds " + label.format("b:1")] == 0.5
    assert got["llm_d_epp_average_queue_size name=default/pool"] == 4
    assert "llm_d_epp_average_kv_cache_utilization name=default/pool" not in got


async def test_an_unreachable_endpoint_is_not_ready() -> None:
    got = await page(
        PickerMetrics(), endpoint("a:1", reachable=False), endpoint("b:1", reachable=True)
    )
    assert got["llm_d_epp_ready_endpoints name=default/pool"] == 1
    assert got["inferway_endpoint_reachable endpoint=a:1 pool=default/pool"] == 0


async def test_sizes_are_shown() -> None:
    got = await page(PickerMetrics())
    assert got["inferway_prefix_index_blocks"] == 12
    assert got["inferway_prefix_index_bytes"] == 3_456
    assert got["inferway_open_streams"] == 5
    assert got["inferway_config_version"] == 4


async def test_ends_by_cause() -> None:
    metrics = PickerMetrics()
    counters = metrics.model("default/pool", "m")
    counters.ended(ended(end=0, duration_us=2_000_000, ttft_us=500_000))
    counters.ended(ended(end=1, status=502))
    counters.ended(ended(end=200, status=0))
    got = await page(metrics)
    assert got["inferway_streams_ended_total end=complete model=m pool=default/pool"] == 1
    assert got["inferway_streams_ended_total end=server_failed model=m pool=default/pool"] == 1
    assert got["inferway_streams_ended_total end=other model=m pool=default/pool"] == 1
    assert got["inferway_request_duration_seconds_sum model=m pool=default/pool"] == 2.0
    assert got["inferway_time_to_first_token_seconds_sum model=m pool=default/pool"] == 0.5
    error = "error_code=502 inference_pool=default/pool model_name=m target_model_name=m"
    assert got["llm_d_epp_request_error_total " + error] == 1


def test_time_per_output_token_is_of_streams_only() -> None:
    counters = ModelCounters(PoolCounters("p"), "m")
    stream = {"ttft_us": 1_000_000, "duration_us": 3_000_000, "usage": (9, 0, 5)}
    counters.ended(ended(**stream))
    assert len(counters.output_token_seconds) == 0
    counters.ended(ended(event_stream=True, **stream))
    assert counters.output_token_seconds.total == 0.5


def test_labels_that_clients_choose_are_capped() -> None:
    metrics = PickerMetrics(label_values_max=3)
    cells = [metrics.model("p", f"model-{n}") for n in range(10)]
    assert [cell.model for cell in cells] == ["model-0", "model-1", "model-2"] + ["other"] * 7
    assert len(metrics.models()) == 4
    assert metrics.model("p", "model-1") is cells[1]
    assert metrics.model("q", "model-1").model == "model-1"


def test_pool_labels_are_capped() -> None:
    metrics = PickerMetrics(label_values_max=2)
    names = [metrics.pool(f"p{n}").name for n in range(4)]
    assert names == ["p0", "p1", "other", "other"]


async def test_rendering_lets_others_run() -> None:
    """A clock that jumps a slice at every look makes each family give way once."""
    ticks = iter(range(10_000))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(other())
        await render(sources(PickerMetrics()), lambda: float(next(ticks)))
        task.cancel()
    assert turns > 20


@pytest.mark.parametrize("name", ["llm_d_epp_request_total", "inferway_picks_total"])
async def test_names_people_look_for_are_there(name: str) -> None:
    metrics = PickerMetrics()
    metrics.model("p", "m").requests += 1
    metrics.pool("p").outcomes[0] += 1
    assert any(key.startswith(name + " ") for key in await page(metrics))


def test_traffic_of_a_pool() -> None:
    metrics = PickerMetrics()
    counters = metrics.pool("p")
    counters.outcomes[0], counters.outcomes[3] = 7, 2
    counters.prompt_tokens, counters.matched_tokens = 100.0, 25.0
    for model, ttft_us in (("a", 90_000), ("b", 100_000), ("a", 500_000_000)):
        metrics.model("p", model).ended(ended(ttft_us=ttft_us, duration_us=600_000_000))
    metrics.model("other", "a").ended(ended(ttft_us=1_000, duration_us=2_000))
    traffic = metrics.traffic("p")
    assert traffic.outcomes == {OUTCOMES[0].value: 7, OUTCOMES[3].value: 2}
    assert (traffic.prompt_tokens, traffic.matched_tokens) == (100.0, 25.0)
    assert traffic.ttft == ((0.1, 2), (None, 1))
    assert metrics.traffic("nobody").outcomes == {}


async def test_what_was_followed_of_kv_events_is_shown() -> None:
    samples = await page(PickerMetrics())
    assert samples["inferway_kv_event_batches_total kind=gap"] == 7
    assert samples["inferway_kv_event_batches_total kind=lost_gap"] == 6
    assert samples["inferway_kv_event_batches_total kind=restart"] == 5
    assert samples["inferway_kv_event_batches_total kind=garbage"] == 1
    assert samples["inferway_kv_event_full_slices_total"] == 4
    assert samples["inferway_kv_event_publishers connected=true"] == 2
    assert samples["inferway_kv_event_publishers connected=false"] == 1
    assert samples["inferway_kv_engine_blocks"] == 0
