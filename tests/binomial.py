"""Whether counted answers fit the share that weights promise.

A test draws at random and must not fail by luck. Three standard deviations are crossed once in 370
draws, and a run checks dozens of shares. So the margin is 4.5 deviations (once in 150,000) of a
sample of 9/4 the size at which three deviations would say the same.
"""

from __future__ import annotations

import math

DEVIATIONS = 4.5


def fits_share(count: int, share: float, *, of: int) -> bool:
    """`count` hits among `of` draws, of which each hits with probability `share`."""
    return abs(count - share * of) <= DEVIATIONS * math.sqrt(of * share * (1 - share))
