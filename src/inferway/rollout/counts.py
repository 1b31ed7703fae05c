"""What the gateway has counted of one version, and how a window of it is made.

Problem: the picker's counters start anew when the picker does, and a window must begin when the
weights of a step are in force. Model: `Counts` is a cumulative reading; `grown` adds what was
counted between two readings to a window, and takes a counter that went back for a fresh start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inferway.observability.latency_buckets import BUCKETS

Histogram = tuple[int, ...]
NO_LATENCIES: Final[Histogram] = (0,) * BUCKETS


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of one version that have ended. `served` are those that a server took: answered,
    also with a client's error, or failed. `errors` of them are the faults that a client saw of the
    server or of the way to it; `shed` were turned away for lack of room and are not in `served`.
    Histograms have a count per latency bucket, of complete answers.
    """

    served: int = 0
    errors: int = 0
    shed: int = 0
    ttft: Histogram = NO_LATENCIES
    tpot: Histogram = NO_LATENCIES

    @property
    def asked(self) -> int:
        return self.served + self.shed

    def plus(self, other: Counts) -> Counts:
        return Counts(
            self.served + other.served,
            self.errors + other.errors,
            self.shed + other.shed,
            tuple(map(int.__add__, self.ttft, other.ttft)),
            tuple(map(int.__add__, self.tpot, other.tpot)),
        )

    def since(self, before: Counts) -> Counts:
        """What was counted after `before`; all of it when a counter has started anew."""
        if self.served < before.served or self.errors < before.errors or self.shed < before.shed:
            return self
        return Counts(
            self.served - before.served,
            self.errors - before.errors,
            self.shed - before.shed,
            _less(self.ttft, before.ttft),
            _less(self.tpot, before.tpot),
        )


def _less(counts: Histogram, before: Histogram) -> Histogram:
    return tuple(max(now - then, 0) for now, then in zip(counts, before, strict=True))


NOTHING: Final = Counts()


@dataclass(frozen=True, slots=True)
class Mean:
    """Of a gauge, over its readings."""

    total: float = 0.0
    readings: int = 0

    def plus(self, value: float | None) -> Mean:
        return self if value is None else Mean(self.total + value, self.readings + 1)

    @property
    def value(self) -> float | None:
        return self.total / self.readings if self.readings else None


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest measurements of one version; saturation None: not known."""

    counts: Counts = NOTHING
    saturation: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What one version did since a moment. `latest`: the reading that it reaches to."""

    counts: Counts = NOTHING
    saturation: Mean = Mean()
    latest: Counts | None = None

    def grown(self, reading: Reading) -> Window:
        """With what came since the last reading; the first only marks the beginning."""
        new = NOTHING if self.latest is None else reading.counts.since(self.latest)
        return Window(
            self.counts.plus(new), self.saturation.plus(reading.saturation), reading.counts
        )


EMPTY: Final = Window()
