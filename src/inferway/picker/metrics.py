"""What the picker counts, as plain numbers.

Problem: a metrics library costs more per observation than a decision may. Model: the decision
path adds to ints and lists that are owned here; `exposition.py` turns them into Prometheus text
when somebody asks. Invariants: nothing here locks, formats or allocates per request (cells are
made once per pool and model); label values that clients can choose are capped, so memory is
bounded. It does not read clocks.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from inferway.observability.names import LABEL_VALUES_MAX, OTHER_LABEL
from inferway.picker.config import TrafficStatus
from inferway.picker.outcome import OUTCOMES
from inferway.picker.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inferway._native import Done
    from inferway.picker.versions import VersionCounters


def _bounds(*lines: str) -> tuple[float, ...]:
    return tuple(float(bound) for line in lines for bound in line.split())


# Bucket bounds of the reference picker, so that its dashboards show ours (32778 is theirs, and
# kept for that reason).
REQUEST_SECONDS: Final = _bounds(
    "0.005 0.025 0.05 0.1 0.2 0.4 0.6 0.8 1 1.25 1.5 2 3 4 5 6 8 10 15 20 30 45 60 120",
    "180 240 300 360 480 600 900 1200 1800 2700 3600",
)
FIRST_TOKEN_SECONDS: Final = REQUEST_SECONDS[:24]
OUTPUT_TOKEN_SECONDS: Final = _bounds(
    "0.0005 0.00205 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.125 0.15 0.2 0.3 0.4 0.5 0.6 0.8 1 2"
)
TOKENS: Final = _bounds(
    "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 32778 65536 131072 262144 524288 1048576"
)
OUTPUT_TOKENS: Final = _bounds("1 8 16 32 64 128 256 512 1024 2048 4096 8192")
# Ours: a batch is decided in tens of microseconds when all is well.
DECISION_SECONDS: Final = _bounds(
    "0.00001 0.00002 0.00005 0.0001 0.0002 0.0005 0.001 0.002 0.005 0.01 0.02 0.05 0.1"
)
BATCH_REQUESTS: Final = tuple(2.0**power for power in range(11))
LAG_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
RATIO: Final = tuple(tenth / 10 for tenth in range(11))

# Index = the `end` of a DONE frame; the last one stands for codes of a newer minor version.
STREAM_ENDS: Final = ("complete", "server_failed", "client_left", "answered_locally", OTHER_LABEL)
_END_OTHER: Final = len(STREAM_ENDS) - 1


class Histogram:
    """Counts per bucket and the sum of what was observed.

    `counts` is not cumulative; its last element counts what is beyond every bound.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Adds one observation. An int works as well, but is slower to place."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def __len__(self) -> int:
        return sum(self.counts)


class PoolCounters:
    """One pool's picks.

    Tokens are the picker's estimates; what engines report is in `ModelCounters`.
    """

    __slots__ = (
        "matched_tokens",
        "name",
        "outcomes",
        "priorities",
        "prompt_tokens",
        "ttft_seconds",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcomes = [0] * len(OUTCOMES)
        self.priorities: dict[int, int] = {}  # values come from objectives, so there are few
        self.prompt_tokens = 0.0
        self.matched_tokens = 0.0
        self.ttft_seconds = Histogram(FIRST_TOKEN_SECONDS)


class ModelCounters:
    """One model in one pool: what came of the requests."""

    __slots__ = (
        "_of_pool",
        "cached_tokens",
        "completion_tokens",
        "duration_seconds",
        "ends",
        "errors",
        "model",
        "output_token_seconds",
        "pool",
        "prompt_tokens",
        "requests",
        "running",
        "ttft_seconds",
        "version",
    )

    def __init__(self, pool: PoolCounters, model: str) -> None:
        self.pool = pool.name
        self._of_pool = pool.ttft_seconds
        self.model = model
        self.version: VersionCounters | None = None  # while a roll-out measures the pool
        self.requests = 0
        self.running = 0
        self.ends = [0] * len(STREAM_ENDS)
        self.errors: dict[int, int] = {}
        self.ttft_seconds = Histogram(FIRST_TOKEN_SECONDS)
        self.duration_seconds = Histogram(REQUEST_SECONDS)
        self.output_token_seconds = Histogram(OUTPUT_TOKEN_SECONDS)
        self.prompt_tokens = Histogram(TOKENS)
        self.cached_tokens = Histogram(TOKENS)
        self.completion_tokens = Histogram(OUTPUT_TOKENS)

    def ended(self, done: Done) -> None:
        """Counts a stream's end.

        Latencies count only what a server answered, tokens only what it reported.
        """
        if self.version is not None:
            self.version.ended(done)
        end, status = done.end, done.status
        self.ends[end if end < _END_OTHER else _END_OTHER] += 1  # noqa: FURB136 - min() costs more
        if status >= 400:
            self.errors[status] = self.errors.get(status, 0) + 1
        if end != 0 or status >= 400:
            return
        duration_s, ttft_s = done.duration_us * 1e-6, done.ttft_us * 1e-6
        self.duration_seconds.observe(duration_s)
        if ttft_s:
            self.ttft_seconds.observe(ttft_s)
            self._of_pool.observe(ttft_s)
        if done.usage:
            completion_tokens = done.completion_tokens
            self.prompt_tokens.observe(float(done.prompt_tokens))
            self.cached_tokens.observe(float(done.cached_tokens))
            self.completion_tokens.observe(float(completion_tokens))
            if completion_tokens > 1 and ttft_s and done.event_stream:
                after_first_s = duration_s - ttft_s if duration_s > ttft_s else 0.0
                self.output_token_seconds.observe(after_first_s / (completion_tokens - 1))


class PickerMetrics:
    """Everything one picker process counts. Outlives runtimes."""

    __slots__ = (
        "_models",
        "_names",
        "_pools",
        "batch_requests",
        "closed",
        "configs_applied",
        "configs_refused",
        "connected",
        "decision_seconds",
        "dropped_frames",
        "hit_ratio",
        "label_values_max",
        "lag_seconds",
        "request_decision_seconds",
        "versions",
    )

    def __init__(self, *, label_values_max: int = LABEL_VALUES_MAX) -> None:
        self.label_values_max = label_values_max
        self._pools: dict[str, PoolCounters] = {}
        self._models: dict[tuple[str, str], ModelCounters] = {}
        self._names: set[str] = set()
        self.versions = Versions()
        self.decision_seconds = Histogram(DECISION_SECONDS)
        self.request_decision_seconds = Histogram(DECISION_SECONDS)
        self.batch_requests = Histogram(BATCH_REQUESTS)
        self.lag_seconds = Histogram(LAG_SECONDS)
        self.hit_ratio = Histogram(RATIO)
        self.connected = 0
        self.closed: dict[str, int] = {}
        self.dropped_frames = 0
        self.configs_applied = 0
        self.configs_refused = 0

    def pool(self, name: str) -> PoolCounters:
        cell = self._pools.get(name)
        if cell is None:
            if len(self._pools) >= self.label_values_max:
                name = OTHER_LABEL
            cell = self._pools.setdefault(name, PoolCounters(name))
        return cell

    def model(self, pool: str, model: str) -> ModelCounters:
        cell = self._models.get((pool, model))
        if cell is None:
            cell = self._new_model(pool, model)
        return cell

    def _new_model(self, pool: str, model: str) -> ModelCounters:
        if model not in self._names:
            if len(self._names) >= self.label_values_max:
                model = OTHER_LABEL
            else:
                self._names.add(model)
        counters = self.pool(pool)
        cell = self._models.setdefault((counters.name, model), ModelCounters(counters, model))
        cell.version = self.versions.cell(counters.name, model)
        return cell

    def measure(self, pools: Iterable[str]) -> None:
        """Count versions in these pools, and nowhere else."""
        self.versions.measure(pools)
        for cell in self._models.values():
            cell.version = self.versions.cell(cell.pool, cell.model)

    def batch(self, requests: int, seconds: float) -> None:
        """One wake-up decided so many requests; each of them waited that long."""
        decisions, waits = self.decision_seconds, self.request_decision_seconds
        bucket = bisect_left(DECISION_SECONDS, seconds)  # of both
        decisions.counts[bucket] += 1
        decisions.total += seconds
        waits.counts[bucket] += requests
        waits.total += seconds * requests
        self.batch_requests.observe(float(requests))

    def connection_closed(self, cause: str) -> None:
        self.connected -= 1
        self.closed[cause] = self.closed.get(cause, 0) + 1

    def pools(self) -> list[PoolCounters]:
        return list(self._pools.values())

    def models(self) -> list[ModelCounters]:
        return list(self._models.values())

    def traffic(self, pool: str) -> TrafficStatus:
        """What control hears of a pool's requests."""
        counters = self.pool(pool)
        bounds = (*FIRST_TOKEN_SECONDS, None)
        outcomes = zip(OUTCOMES, counters.outcomes, strict=True)
        return TrafficStatus(
            outcomes={outcome.value: count for outcome, count in outcomes if count},
            prompt_tokens=counters.prompt_tokens,
            matched_tokens=counters.matched_tokens,
            ttft=tuple(
                (bound, count)
                for bound, count in zip(bounds, counters.ttft_seconds.counts, strict=True)
                if count
            ),
        )
