"""The picker's counters as a Prometheus page.

Problem: rendering thousands of samples takes tens of milliseconds, and decisions run on the same
thread. Model: collectors that read `PickerMetrics`, a status snapshot and the prefix index, one
metric family at a time; `render` gives the event loop a turn whenever a slice of time is used up.
Our names start with `inferway_`; series with the same meaning as the reference picker's carry its
name as well. Invariant: unknown is not zero: a value that was never scraped has no sample. A
value may be one slice older than its neighbour.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from inferway.observability.names import METRIC_PREFIX, REFERENCE_METRIC_PREFIX
from inferway.picker.datalayer.kv_events import exposition as kv_events
from inferway.picker.flow_exposition import flow_families
from inferway.picker.metrics import STREAM_ENDS
from inferway.picker.outcome import OUTCOMES, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from inferway.picker.config import EndpointStatus, PickerStatus, PoolStatus, SpeedStatus
    from inferway.picker.datalayer.kv_events.book import EventBook
    from inferway.picker.flowcontrol.counters import FlowCounters
    from inferway.picker.metrics import Histogram, ModelCounters, PickerMetrics

    Samples = Iterable[tuple[Sequence[str], float | None]]

SLICE_S: Final = 0.0005  # the longest that rendering keeps decisions waiting, but for one family
_OURS: Final = METRIC_PREFIX
_THEIRS: Final = REFERENCE_METRIC_PREFIX
_MODEL: Final = ("pool", "model")
_THEIR_MODEL: Final = ("inference_pool", "model_name", "target_model_name")


class IndexSize(Protocol):
    """The part of the prefix index that is shown."""

    def __len__(self) -> int: ...
    def memory_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What one page is rendered from."""

    metrics: PickerMetrics
    status: PickerStatus
    index: IndexSize
    open_streams: int
    kv_events: tuple[EventBook, kv_events.Following]
    flows: Mapping[str, FlowCounters]  # by pool


async def render(sources: Sources, clock: Callable[[], float]) -> str:
    """The page as text. `clock` counts seconds."""
    page: list[str] = []
    slice_ends = clock() + SLICE_S
    for family in families(sources):
        page.append(generate_latest(_OneFamily(family)).decode())
        if clock() >= slice_ends:
            await asyncio.sleep(0)
            slice_ends = clock() + SLICE_S
    return "".join(page)


def families(sources: Sources) -> Iterator[Metric]:
    """Every family, in a fixed order, even when it has no sample yet."""
    yield from _decisions(sources.metrics)
    yield from _models(sources.metrics.models())
    yield from _reference_models(sources.metrics.models())
    yield from _endpoints(sources.status)
    yield from _plugins(sources.status)
    yield from _reference_pools(sources)
    yield from kv_events.families(*sources.kv_events)
    yield from flow_families(sources.status, sources.flows, sources.metrics.pools())
    yield from _process(sources)


class _OneFamily:
    """What prometheus_client wants to see of a registry."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _decisions(metrics: PickerMetrics) -> Iterator[Metric]:
    pools = metrics.pools()
    yield _counter(
        f"{_OURS}picks",
        "Picks answered, by what came of them.",
        ("pool", "outcome"),
        (
            ((pool.name, outcome.value), count)
            for pool in pools
            for outcome, count in zip(OUTCOMES, pool.outcomes, strict=True)
        ),
    )
    yield _counter(
        f"{_OURS}picked_by_priority",
        "Requests placed, by the priority of their objective.",
        ("pool", "priority"),
        (
            ((pool.name, str(priority)), count)
            for pool in pools
            for priority, count in sorted(pool.priorities.items())
        ),
    )
    yield _histogram(
        f"{_OURS}decision_seconds",
        "Time to decide all that had arrived, per wake-up.",
        (),
        [((), metrics.decision_seconds)],
    )
    yield _histogram(
        f"{_OURS}decision_batch_requests",
        "Picks decided together, per wake-up.",
        (),
        [((), metrics.batch_requests)],
    )
    yield _counter(
        f"{_OURS}prompt_tokens_estimated",
        "Prompt tokens of picked requests, estimated from their bytes.",
        ("pool",),
        (((pool.name,), pool.prompt_tokens) for pool in pools),
    )
    yield _counter(
        f"{_OURS}matched_tokens_estimated",
        "Those of them that the prefix index expected in the picked endpoint's cache.",
        ("pool",),
        (((pool.name,), pool.matched_tokens) for pool in pools),
    )


def _models(models: Sequence[ModelCounters]) -> Iterator[Metric]:
    labelled = [((cell.pool, cell.model), cell) for cell in models]
    yield _gauge(
        f"{_OURS}running_requests",
        "Requests placed and not ended.",
        _MODEL,
        ((labels, cell.running) for labels, cell in labelled),
    )
    yield _counter(
        f"{_OURS}streams_ended",
        "Ends of requests, by who ended them.",
        (*_MODEL, "end"),
        (
            ((*labels, end), count)
            for labels, cell in labelled
            for end, count in zip(STREAM_ENDS, cell.ends, strict=True)
        ),
    )
    yield _histogram(
        f"{_OURS}time_to_first_token_seconds",
        "Request received to first byte of the response body, of complete successful responses.",
        _MODEL,
        ((labels, cell.ttft_seconds) for labels, cell in labelled),
    )
    yield _histogram(
        f"{_OURS}request_duration_seconds",
        "Request received to end of response, of complete successful responses.",
        _MODEL,
        ((labels, cell.duration_seconds) for labels, cell in labelled),
    )
    for name, text, field in (
        ("prompt_tokens", "Prompt tokens that servers reported.", "prompt_tokens"),
        ("cached_tokens", "Those of them that servers had cached.", "cached_tokens"),
        ("completion_tokens", "Output tokens that servers reported.", "completion_tokens"),
    ):
        yield _counter(
            _OURS + name,
            text,
            _MODEL,
            ((labels, getattr(cell, field).total) for labels, cell in labelled),
        )


def _reference_models(models: Sequence[ModelCounters]) -> Iterator[Metric]:
    labelled = [((cell.pool, cell.model, cell.model), cell) for cell in models]
    yield _counter(
        f"{_THEIRS}request",
        "Requests placed.",
        _THEIR_MODEL,
        ((labels, cell.requests) for labels, cell in labelled),
    )
    yield _counter(
        f"{_THEIRS}request_error",
        "Requests that ended with an HTTP error.",
        (*_THEIR_MODEL, "error_code"),
        (
            ((*labels, str(status)), count)
            for labels, cell in labelled
            for status, count in sorted(cell.errors.items())
        ),
    )
    yield _gauge(
        f"{_THEIRS}request_running",
        "Requests placed and not ended.",
        _THEIR_MODEL,
        ((labels, cell.running) for labels, cell in labelled),
    )
    for name, text, field in (
        ("request_ttft_seconds", "Time to first token.", "ttft_seconds"),
        ("request_duration_seconds", "Time to the end of the response.", "duration_seconds"),
        ("request_streaming_tpot_seconds", "Time per further token.", "output_token_seconds"),
        ("request_input_tokens", "Prompt tokens.", "prompt_tokens"),
        ("request_cached_tokens", "Cached prompt tokens.", "cached_tokens"),
        ("request_output_tokens", "Output tokens.", "completion_tokens"),
    ):
        yield _histogram(
            _THEIRS + name,
            text,
            _THEIR_MODEL,
            ((labels, getattr(cell, field)) for labels, cell in labelled),
        )


def _endpoints(status: PickerStatus) -> Iterator[Metric]:
    rows = [
        ((pool.name, endpoint.address), endpoint)
        for pool in status.pools
        for endpoint in pool.endpoints
    ]
    shown: tuple[tuple[str, str, Callable[[EndpointStatus], float | None]], ...] = (
        ("in_flight_requests", "Requests sent there that have not ended.", lambda e: e.in_flight),
        ("waiting_requests", "Requests queued in the engine, scraped.", lambda e: e.waiting),
        ("running_requests", "Requests running in the engine, scraped.", lambda e: e.running),
        ("kv_usage_ratio", "Used share of the KV cache, scraped.", lambda e: e.kv_usage_ratio),
        ("metrics_age_seconds", "Age of the scraped values.", lambda e: e.age_s),
        ("ready", "0 when it gets no picks.", lambda e: e.ready),
        ("ejected", "1 while faults keep it out.", lambda e: e.health != "active"),
        ("weight", "Part of its normal traffic; under 1 when busy.", lambda e: e.weight),
        ("reachable", "1 when the last scrape succeeded.", lambda e: e.reachable),
        *_SPEEDS,
    )
    for name, text, read in shown:
        yield _gauge(
            f"{_OURS}endpoint_{name}",
            text,
            ("pool", "endpoint"),
            ((labels, read(endpoint)) for labels, endpoint in rows),
        )
    yield _counter(
        f"{_OURS}endpoint_picks",
        "Requests that the picker sent there.",
        ("pool", "endpoint"),
        ((labels, endpoint.picks) for labels, endpoint in rows),
    )
    yield _counter(
        f"{_OURS}endpoint_speed_observations",
        "Latencies that the constants were learnt from, or not because the others contradict.",
        ("pool", "endpoint", "verdict"),
        (
            ((*labels, verdict), count)
            for labels, endpoint in rows
            if (speed := endpoint.speed) is not None
            for verdict, count in (("believed", speed.observations), ("dropped", speed.dropped))
        ),
    )
    yield _counter(
        f"{_OURS}endpoint_faults",
        "Attempts and streams that failed there, and busy answers, by class.",
        ("pool", "endpoint", "class"),
        (((*labels, one), n) for labels, endpoint in rows for one, n in endpoint.faults.items()),
    )
    yield _counter(
        f"{_OURS}endpoint_ejections",
        "Times that it was ejected, by what did it.",
        ("pool", "endpoint", "cause"),
        (((*labels, one), n) for labels, endpoint in rows for one, n in endpoint.ejections.items()),
    )
    yield _gauge(
        f"{_OURS}pool_panic",
        "1 while so many endpoints are ejected that all are used.",
        ("pool",),
        (((pool.name,), pool.panic) for pool in status.pools),
    )


def _plugins(status: PickerStatus) -> Iterator[Metric]:
    rows = [((pool.name, plugin.name), plugin) for pool in status.pools for plugin in pool.plugins]
    labels = ("pool", "plugin")
    yield _counter(
        f"{_OURS}plugin_calls",
        "Calls of a plugin of others.",
        labels,
        ((names, plugin.calls) for names, plugin in rows),
    )
    yield _counter(
        f"{_OURS}plugin_call_seconds",
        "Time spent in them.",
        labels,
        ((names, plugin.seconds) for names, plugin in rows),
    )
    yield _counter(
        f"{_OURS}plugin_faults",
        "Those that failed; the plugin's term was left out.",
        (*labels, "cause"),
        (
            ((*names, cause), count)
            for names, plugin in rows
            for cause, count in plugin.faults.items()
        ),
    )
    yield _gauge(
        f"{_OURS}plugin_active",
        "0 while a plugin rests after a fault, or when it could not be loaded.",
        labels,
        ((names, bool(plugin.version) and not plugin.resting) for names, plugin in rows),
    )
    yield _gauge(
        f"{_OURS}plugin_outdated",
        "1 while the newest version of a plugin could not be put into force.",
        labels,
        ((names, bool(plugin.error)) for names, plugin in rows),
    )


def _speed(read: Callable[[SpeedStatus], float]) -> Callable[[EndpointStatus], float | None]:
    return lambda endpoint: None if endpoint.speed is None else read(endpoint.speed)


_SPEEDS: Final[tuple[tuple[str, str, Callable[[EndpointStatus], float | None]], ...]] = (
    ("prefill_tokens_per_second", "Prefill, learnt.", _speed(lambda s: s.prefill_tokens_per_s)),
    ("attention_seconds", "Per pair of prompt tokens, learnt.", _speed(lambda s: s.attention_s)),
    (
        "first_token_seconds",
        "What a first token takes beyond its prefill, learnt.",
        _speed(lambda s: s.first_token_s),
    ),
    ("step_seconds", "One decode step of a batch of one, learnt.", _speed(lambda s: s.step_s)),
    (
        "context_token_seconds",
        "What a context token adds to a decode step, learnt.",
        _speed(lambda s: s.context_token_s),
    ),
)


def _answers(endpoint: EndpointStatus) -> bool:
    return endpoint.ready and endpoint.reachable is not False


def _reference_pools(sources: Sources) -> Iterator[Metric]:
    pools = sources.status.pools
    for name, text, read in _POOL_AVERAGES:
        yield _gauge(
            _THEIRS + name, text, ("name",), [((pool.name,), _mean(pool, read)) for pool in pools]
        )
    yield _gauge(
        f"{_THEIRS}ready_endpoints",
        "Endpoints that answer and pass their health checks.",
        ("name",),
        [((pool.name,), sum(map(_answers, pool.endpoints))) for pool in pools],
    )
    yield _gauge(
        f"{_THEIRS}per_endpoint_queue_size",
        "Requests queued in the engine.",
        ("name", "model_server_endpoint"),
        [((pool.name, e.address), e.waiting) for pool in pools for e in pool.endpoints],
    )
    metrics = sources.metrics
    yield _histogram(
        f"{_THEIRS}scheduler_e2e_duration_seconds",
        "Time that a request waited for its decision.",
        (),
        [((), metrics.request_decision_seconds)],
    )
    picked = OUTCOMES.index(Outcome.PICKED)
    successes = sum(pool.outcomes[picked] for pool in metrics.pools())
    attempts = sum(sum(pool.outcomes) for pool in metrics.pools())
    yield _counter(
        f"{_THEIRS}scheduler_attempts",
        "Picks tried.",
        ("status",),
        [(("success",), successes), (("failure",), attempts - successes)],
    )
    yield _gauge(
        f"{_THEIRS}prefix_indexer_size",
        "Entries of the prefix index.",
        (),
        [((), len(sources.index))],
    )
    yield _histogram(
        f"{_THEIRS}prefix_indexer_hit_ratio",
        "Expected cached share of a prompt.",
        (),
        [((), metrics.hit_ratio)],
    )


_POOL_AVERAGES: Final[tuple[tuple[str, str, Callable[[EndpointStatus], float | None]], ...]] = (
    ("average_queue_size", "Mean queue in the engines.", lambda e: e.waiting),
    ("average_running_requests", "Mean of requests running.", lambda e: e.running),
    ("average_kv_cache_utilization", "Mean used share of KV caches.", lambda e: e.kv_usage_ratio),
)


def _process(sources: Sources) -> Iterator[Metric]:
    metrics = sources.metrics
    gauges: tuple[tuple[str, str, float], ...] = (
        ("prefix_index_blocks", "Entries of the prefix index.", len(sources.index)),
        ("prefix_index_bytes", "Memory of the prefix index.", sources.index.memory_bytes()),
        ("open_streams", "Streams that filters hold open.", sources.open_streams),
        ("filters_connected", "Filters (Envoy processes) connected.", metrics.connected),
        ("config_version", "Configuration in force.", sources.status.version),
    )
    for name, text, value in gauges:
        yield _gauge(_OURS + name, text, (), [((), value)])
    counters: tuple[tuple[str, str, float], ...] = (
        ("configs_applied", "Configurations taken into force.", metrics.configs_applied),
        ("configs_refused", "Configurations refused.", metrics.configs_refused),
        ("frames_dropped", "Frames that fitted no stream.", metrics.dropped_frames),
    )
    for name, text, value in counters:
        yield _counter(_OURS + name, text, (), [((), value)])
    yield _counter(
        f"{_OURS}connections_closed",
        "Filter connections that ended, by cause.",
        ("cause",),
        [((cause,), count) for cause, count in sorted(metrics.closed.items())],
    )
    yield _histogram(
        f"{_OURS}event_loop_lag_seconds",
        "How late the heartbeat timer fires: time that something kept decisions waiting.",
        (),
        [((), metrics.lag_seconds)],
    )


def _mean(pool: PoolStatus, read: Callable[[EndpointStatus], float | None]) -> float | None:
    known = [value for endpoint in pool.endpoints if (value := read(endpoint)) is not None]
    return math.fsum(known) / len(known) if known else None


def _counter(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def _histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    samples: Iterable[tuple[Sequence[str], Histogram]],
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in samples:
        edges = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
        buckets = list(zip(edges, map(float, accumulate(histogram.counts)), strict=True))
        family.add_metric(values, buckets, sum_value=histogram.total)
    return family
