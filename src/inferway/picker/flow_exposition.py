"""Flow control as Prometheus families: what waits, how long, and how it left.

Series of the reference picker's flow control carry its names. Its labels for models are left out:
a queue is one per priority and flow here, whatever model is asked for.
"""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from inferway.observability.names import METRIC_PREFIX, REFERENCE_METRIC_PREFIX
from inferway.picker.flowcontrol.counters import Left

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from inferway.picker.config import BandStatus, PickerStatus, PoolStatus
    from inferway.picker.flowcontrol.counters import FlowCounters
    from inferway.picker.metrics import PoolCounters

_OURS: Final = METRIC_PREFIX
_THEIRS: Final = f"{REFERENCE_METRIC_PREFIX}flow_control_"


def flow_families(
    status: PickerStatus, counters: Mapping[str, FlowCounters], pools: Sequence[PoolCounters]
) -> Iterator[Metric]:
    """Every family, in a fixed order, even when it has no sample."""
    yield from _what_waits(status)
    yield from _how_it_left(counters)
    yield from _reference(status)
    yield from _reference_counts(counters, pools)


def _bands(status: PickerStatus) -> Iterator[tuple[PoolStatus, BandStatus]]:
    return ((pool, band) for pool in status.pools for band in pool.flow.bands)


def _what_waits(status: PickerStatus) -> Iterator[Metric]:
    labels = ("pool", "priority")
    bands = [((pool.name, str(band.priority)), band) for pool, band in _bands(status)]
    yield _gauge(
        f"{_OURS}queue_requests",
        "Requests that wait in the picker.",
        labels,
        ((at, band.requests) for at, band in bands),
    )
    yield _gauge(
        f"{_OURS}queue_bytes",
        "Bytes of their bodies, which Envoy holds.",
        labels,
        ((at, band.bytes) for at, band in bands),
    )
    yield _gauge(
        f"{_OURS}saturation_ratio",
        "How full the pool is by its detector; at 1 requests wait.",
        ("pool",),
        (((pool.name,), pool.flow.saturation) for pool in status.pools),
    )
    yield _gauge(
        f"{_OURS}retry_tickets",
        "Refused requests that were told when to come back, and have not yet.",
        ("pool",),
        (((pool.name,), pool.flow.tickets) for pool in status.pools),
    )


def _how_it_left(counters: Mapping[str, FlowCounters]) -> Iterator[Metric]:
    yield _waits(
        f"{_OURS}queue_wait_seconds",
        "Wait of requests that could not go at once, by how they left.",
        ("pool", "priority", "outcome"),
        counters,
    )


def _reference(status: PickerStatus) -> Iterator[Metric]:
    yield _gauge(
        f"{_THEIRS}queue_size",
        "Requests that wait, by flow.",
        ("fairness_id", "priority", "inference_pool"),
        (
            ((flow, str(band.priority), pool.name), count)
            for pool, band in _bands(status)
            for flow, count in band.flows.items()
        ),
    )
    labels = ("priority", "inference_pool")
    bands = [((str(band.priority), pool.name), band) for pool, band in _bands(status)]
    yield _gauge(
        f"{_THEIRS}queue_bytes",
        "Bytes of the bodies of requests that wait.",
        labels,
        ((at, band.bytes) for at, band in bands),
    )
    yield _gauge(
        f"{_THEIRS}pool_saturation",
        "How full the pool is.",
        ("inference_pool", "stage"),
        (((pool.name, "effective"), pool.flow.saturation) for pool in status.pools),
    )
    yield _gauge(
        f"{_THEIRS}capacity_utilization_requests",
        "Requests that wait over the limit of their band.",
        labels,
        ((at, _ratio(band.requests, band.requests_max)) for at, band in bands),
    )
    yield _gauge(
        f"{_THEIRS}capacity_utilization_bytes",
        "Their bytes over the limit of their band.",
        labels,
        ((at, _ratio(band.bytes, band.bytes_max)) for at, band in bands),
    )
    yield _gauge(
        f"{_THEIRS}global_capacity_utilization_requests",
        "Requests that wait over the limit of the pool.",
        ("inference_pool",),
        (
            ((p.name,), _ratio(sum(b.requests for b in p.flow.bands), p.flow.requests_max))
            for p in status.pools
        ),
    )
    yield _gauge(
        f"{_THEIRS}global_capacity_utilization_bytes",
        "Their bytes over the limit of the pool.",
        ("inference_pool",),
        (
            ((p.name,), _ratio(sum(b.bytes for b in p.flow.bands), p.flow.bytes_max))
            for p in status.pools
        ),
    )


def _reference_counts(
    counters: Mapping[str, FlowCounters], pools: Sequence[PoolCounters]
) -> Iterator[Metric]:
    total: Counter[tuple[str, str, str]] = Counter()
    for pool in pools:
        for priority, count in pool.priorities.items():
            total[Left.DISPATCHED.value, str(priority), pool.name] = count
    for name, flow in counters.items():
        for (priority, left), waits in flow.left.items():
            if left is not Left.DISPATCHED:
                total[left.value, str(priority), name] = len(waits)
    family = CounterMetricFamily(
        f"{_THEIRS}requests",
        "Requests by what came of them, those that did not wait included.",
        labels=("outcome", "priority", "inference_pool"),
    )
    for labels, count in sorted(total.items()):
        family.add_metric(labels, count)
    yield family
    yield _waits(
        f"{_THEIRS}request_queue_duration_seconds",
        "Wait of requests that could not go at once.",
        ("inference_pool", "priority", "outcome"),
        counters,
    )


def _ratio(value: int, limit: int) -> float | None:
    return value / limit if limit else None


def _gauge(
    name: str,
    text: str,
    labels: Sequence[str],
    samples: Iterable[tuple[Sequence[str], float | None]],
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def _waits(
    name: str, text: str, labels: Sequence[str], counters: Mapping[str, FlowCounters]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for pool, flow in counters.items():
        for (priority, left), waits in sorted(flow.left.items()):
            edges = [*(f"{bound:g}" for bound in waits.bounds), "+Inf"]
            buckets = list(zip(edges, map(float, accumulate(waits.counts)), strict=True))
            at = (pool, str(priority), left.value)
            family.add_metric(at, buckets, sum_value=waits.total)
    return family
