"""One request that waits.

Problem: a waiting request is known to several structures at once (its lane, its band, two timers),
and must leave all of them in one step. Model: it carries where it stands; structures that cannot
delete in the middle hold it until it comes up and look at `waits`. `what` is the owner's.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

ANYWHERE: Final = ""  # the place of a request that takes the first room there is
FOR_EVER: Final = float("inf")

T = TypeVar("T")


class Waiting(Generic[T]):
    """`order` is the ordering policy's key: lower goes first; ties go by arrival, then by entry."""

    __slots__ = (
        "arrived_s",
        "bytes",
        "entered_s",
        "expires_s",
        "flow",
        "loose_s",
        "order",
        "place",
        "priority",
        "sequence",
        "tokens",
        "waits",
        "what",
    )

    def __init__(
        self,
        what: T,
        *,
        priority: int,
        flow: str,
        size_bytes: int,
        tokens: float,
        arrived_s: float,
        expires_s: float,
        order: float,
    ) -> None:
        self.what = what
        self.priority = priority
        self.flow = flow
        self.bytes = size_bytes
        self.tokens = tokens  # what it will be charged to its flow
        self.arrived_s = arrived_s
        self.expires_s = expires_s
        self.order = order
        self.place = ANYWHERE
        self.loose_s = FOR_EVER  # from then on it takes any place
        self.sequence = 0
        self.entered_s = arrived_s
        self.waits = False

    @property
    def rank(self) -> tuple[float, float, int]:
        """Its place in its flow: the lowest goes first."""
        return self.order, self.arrived_s, self.sequence
