"""Chance by the number of a stream: filters have no randomness of their own, and the same request
must get the same answer when it is weighed again.
"""

from __future__ import annotations

from typing import Final

_GOLDEN: Final = 0x9E37_79B9_7F4A_7C15
_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF


def happens(probability: float, stream: int) -> bool:
    """For that share of streams."""
    if not probability:
        return False
    value = (stream * _GOLDEN) & _MASK
    value = ((value ^ (value >> 29)) * _GOLDEN) & _MASK
    return (value ^ (value >> 32)) / 2.0**64 < probability
