"""Buckets for latencies that are compared with each other, shared by who counts and who judges.

Problem: the buckets that dashboards know double from one to the next, too coarse to tell whether a
new version is 20 % slower. Model: 50 buckets per decade from 0.1 ms to 1,000 s, so that a bucket's
upper edge is 5 % above its lower one. What is smaller or larger counts in the first or last.
"""

from __future__ import annotations

import math
from typing import Final

PER_DECADE: Final = 50
DECADES: Final = 7
SMALLEST_S: Final = 1e-4
BUCKETS: Final = PER_DECADE * DECADES
_LAST: Final = BUCKETS - 1
_SHIFT: Final = -math.log10(SMALLEST_S) * PER_DECADE


def bucket_of(seconds: float) -> int:
    """Index of the bucket that holds a latency. `seconds` must be above 0."""
    index = int(math.log10(seconds) * PER_DECADE + _SHIFT)
    return min(max(index, 0), _LAST)


def lower_edge_s(index: int) -> float:
    """Where a bucket begins; 0 for the first."""
    return 0.0 if index <= 0 else SMALLEST_S * 10 ** (index / PER_DECADE)


def upper_edge_s(index: int) -> float:
    """Where a bucket ends; infinite for the last."""
    return math.inf if index >= _LAST else SMALLEST_S * 10 ** ((index + 1) / PER_DECADE)


def middle_s(index: int) -> float:
    """The value that stands for a bucket: the geometric mean of its edges."""
    return float(SMALLEST_S * 10 ** ((index + 0.5) / PER_DECADE))
