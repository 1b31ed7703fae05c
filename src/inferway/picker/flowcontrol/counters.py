"""What one pool's flow control counts, as plain numbers. Outlives configurations.

Nothing is counted for a request that did not have to wait.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from inferway.picker.metrics import Histogram


class Left(StrEnum):
    """How a request left flow control, in the words of the reference picker."""

    DISPATCHED = "Dispatched"
    REJECTED_CAPACITY = "RejectedCapacity"
    REJECTED_NO_ENDPOINTS = "RejectedNoEndpoints"
    REJECTED_OTHER = "RejectedOther"
    EVICTED_TTL = "EvictedTTL"
    EVICTED_NO_ENDPOINTS = "EvictedNoEndpoints"
    EVICTED_CONTEXT_CANCELLED = "EvictedContextCancelled"
    EVICTED_OTHER = "EvictedOther"


# The reference's buckets of waits run from 0.1 ms to 60 s.
WAIT_SECONDS: Final = (
    *(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class FlowCounters:
    """`left` counts every request that could not go at once; priorities come from objectives, so
    there are few.
    """

    def __init__(self) -> None:
        self.left: dict[tuple[int, Left], Histogram] = {}

    def count(self, priority: int, left: Left, waited_s: float) -> None:
        cell = self.left.get((priority, left))
        if cell is None:
            cell = self.left[priority, left] = Histogram(WAIT_SECONDS)
        cell.observe(waited_s)
