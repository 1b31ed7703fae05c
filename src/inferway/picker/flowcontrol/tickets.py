"""When a refused request shall come back, and that it finds its place then.

Problem: "try again in a second", said to everybody, brings everybody back at once, and most are
refused again. Model: a queue that waits outside. Whoever is refused gets a time at which it is its
turn (the turns of a priority follow each other at the rate at which it drains) and the gateway
remembers a fingerprint of the request; the same request that comes back in its time is let in ahead
of newcomers, in the order of its first arrival. One that comes too early is told the rest of its
time and loses nothing; one that comes too late is a newcomer. Turns further away than the longest
Retry-After are not given: such a client is told not to try again by itself.

Invariants: at most `TICKETS_MAX` are remembered, the oldest are forgotten first; a ticket is used
once. A fingerprint that two requests share costs one of them its turn, nothing else.
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

TICKETS_MAX: Final = 65_536  # per pool, about 300 bytes each
_GRACE_S: Final = 5.0
_GRACE_RATIO: Final = 0.5  # of the time that it was told to wait


class Ticket(NamedTuple):
    priority: int
    arrived_s: float  # first
    due_s: float
    until_s: float


class Tickets:
    """One pool's. `retry_after_max_s` is the longest that is promised."""

    def __init__(self, retry_after_max_s: float) -> None:
        self.retry_after_max_s = retry_after_max_s
        self._tickets: dict[int, Ticket] = {}
        self._outstanding: dict[int, int] = {}
        self._last_due_s: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def outstanding(self, priority: int) -> int:
        """Turns given to the priority that were not used and are not over."""
        return self._outstanding.get(priority, 0)

    def find(self, fingerprint: int, now_s: float) -> Ticket | None:
        """The request's ticket, due or not; one whose time is over is forgotten."""
        ticket = self._tickets.get(fingerprint)
        if ticket is not None and ticket.until_s < now_s:
            self._forget(fingerprint)
            return None
        return ticket

    def redeem(self, fingerprint: int) -> None:
        """The request was let in."""
        if fingerprint in self._tickets:
            self._forget(fingerprint)

    def give(
        self,
        fingerprint: int,
        *,
        priority: int,
        arrived_s: float,
        wait_s: float,
        rate: float,
        now_s: float,
    ) -> float | None:
        """Seconds until it is its turn, whole and at least 1; None: too far away to be promised.

        `wait_s`: until those that wait now are served; `rate`: turns per second.
        """
        self._sweep(now_s)
        last_s = self._last_due_s.get(priority, now_s)
        due_s = max(now_s + wait_s, min(last_s, now_s + self.retry_after_max_s) + 1.0 / rate)
        told_s = max(1.0, float(ceil(due_s - now_s)))
        if told_s > self.retry_after_max_s:
            return None
        self.redeem(fingerprint)
        until_s = now_s + told_s + _GRACE_S + _GRACE_RATIO * told_s
        self._tickets[fingerprint] = Ticket(priority, arrived_s, due_s, until_s)
        self._outstanding[priority] = self._outstanding.get(priority, 0) + 1
        self._last_due_s[priority] = due_s
        if len(self._tickets) > TICKETS_MAX:
            self._forget(next(iter(self._tickets)))
        return told_s

    def _sweep(self, now_s: float) -> None:
        """Forgets the oldest whose time is over; those between go when they become the oldest."""
        while self._tickets:
            oldest = next(iter(self._tickets))
            if self._tickets[oldest].until_s >= now_s:
                return
            self._forget(oldest)

    def _forget(self, fingerprint: int) -> None:
        priority = self._tickets.pop(fingerprint).priority
        left = self._outstanding[priority] - 1
        if left:
            self._outstanding[priority] = left
        else:
            del self._outstanding[priority]
            self._last_due_s.pop(priority, None)
