"""What clients saw of each version, for roll-outs: counted only where somebody asks for it.

Problem: whether a new version is worse than the old one shows in errors, turned-away requests and
latencies per version, in finer buckets than dashboards need. Model: a version is a model in a pool,
as the gateway saw it: the pool that the route chose and the model that was sent. Control names the
pools that a roll-out concerns; their models get a `VersionCounters` beside their ordinary counters,
which takes one call per ended request. All others pay one comparison with None.

Faults are what a client saw of the server or of the way to it: an answer of 500 or more, a
connection or stream that broke, no endpoint, a model that its own servers lack. Not counted as
faults: clients' errors, clients that left, and back-pressure (429, and 503 of a server), which is
shed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inferway.observability.latency_buckets import bucket_of
from inferway.observability.names import OTHER_LABEL
from inferway.picker.config import VersionStatus
from inferway.picker.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway._native import Done

_COMPLETE: Final = 0
_SERVER_FAILED: Final = 1
_CLIENT_LEFT: Final = 2
_LOCAL: Final = 3
_SHED: Final = frozenset({Outcome.OVERLOADED})
_FAULTS: Final = frozenset({Outcome.NO_ENDPOINT, Outcome.FAILED, Outcome.MODEL_NOT_FOUND})


class VersionCounters:
    """Counts since the picker began to measure; histograms by bucket index, empty ones left out."""

    __slots__ = ("errors", "served", "shed", "tpot", "ttft")

    def __init__(self) -> None:
        self.served = 0
        self.errors = 0
        self.shed = 0
        self.ttft: dict[int, int] = {}
        self.tpot: dict[int, int] = {}

    def ended(self, done: Done) -> None:
        """Counts a stream's end; about half a microsecond."""
        end, status = done.end, done.status
        if end in (_CLIENT_LEFT, _LOCAL):
            return
        if end == _COMPLETE and status in (429, 503):
            self.shed += 1
            return
        self.served += 1
        if end == _SERVER_FAILED or status >= 500:
            self.errors += 1
            return
        ttft_us = done.ttft_us
        if status >= 400 or not ttft_us:
            return
        bucket = bucket_of(ttft_us * 1e-6)
        self.ttft[bucket] = self.ttft.get(bucket, 0) + 1
        tokens = done.completion_tokens
        after_first_us = done.duration_us - ttft_us
        if done.usage and tokens > 1 and done.event_stream and after_first_us > 0:
            bucket = bucket_of(after_first_us * 1e-6 / (tokens - 1))
            self.tpot[bucket] = self.tpot.get(bucket, 0) + 1


class Versions:
    """The versions of the pools that are measured."""

    def __init__(self) -> None:
        self.pools: frozenset[str] = frozenset()
        self._cells: dict[tuple[str, str], VersionCounters] = {}

    def measure(self, pools: Iterable[str]) -> None:
        """These from now on. What was counted of pools that stay is kept."""
        self.pools = frozenset(pools)
        self._cells = {key: cell for key, cell in self._cells.items() if key[0] in self.pools}

    def cell(self, pool: str, model: str) -> VersionCounters | None:
        """Where to count; None where nobody asks. Model names must be bounded by the caller."""
        if pool not in self.pools:
            return None
        return self._cells.setdefault((pool, model), VersionCounters())

    def refused(self, pool: str, model: str, outcome: Outcome) -> None:
        """A request that was not placed. `model` may be any text; unknown ones share a cell."""
        if pool not in self.pools:
            return
        known = model if (pool, model) in self._cells else OTHER_LABEL
        cell = self._cells.setdefault((pool, known), VersionCounters())
        if outcome in _SHED:
            cell.shed += 1
        elif outcome in _FAULTS:
            cell.served += 1
            cell.errors += 1

    def status(self) -> tuple[VersionStatus, ...]:
        """For control."""
        return tuple(
            VersionStatus(
                pool=pool,
                model=model,
                served=cell.served,
                errors=cell.errors,
                shed=cell.shed,
                ttft=tuple(sorted(cell.ttft.items())),
                tpot=tuple(sorted(cell.tpot.items())),
            )
            for (pool, model), cell in self._cells.items()
        )
