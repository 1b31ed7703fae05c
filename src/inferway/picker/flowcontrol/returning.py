"""Refusals with a time to come back, and who comes back in time: rates and tickets of one pool."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from inferway.picker.flowcontrol.asked import Refusal
from inferway.picker.flowcontrol.rates import Rates
from inferway.picker.flowcontrol.tickets import Tickets
from inferway.picker.outcome import Outcome

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.asked import Asked
    from inferway.picker.flowcontrol.config import FlowConfig

# A ticket is honoured so much before its time: clocks and networks are not exact.
_EARLY_S: Final = 0.1
# What may wait of a priority that is refused, so that nothing idles when tickets are not used.
_ALWAYS_S: Final = 0.25


class Returning:
    def __init__(self, config: FlowConfig) -> None:
        self.config = config
        self.rates = Rates()
        self._tickets = Tickets(config.retry_after_max_s)

    def __len__(self) -> int:
        """Requests that were told when to come back, and have not."""
        return len(self._tickets)

    def reconfigure(self, config: FlowConfig) -> None:
        self.config = config
        self._tickets.retry_after_max_s = config.retry_after_max_s

    def arrival(self, asked: Asked, now_s: float, *, may_refuse: bool) -> float | Refusal | None:
        """When it first came, if it was told to come back; None: it was not. Too early is refused
        where it may be.
        """
        if not len(self._tickets):
            return None
        fingerprint = asked.fingerprint
        ticket = self._tickets.find(fingerprint, now_s)
        if ticket is None:
            return None
        if may_refuse and now_s < ticket.due_s - _EARLY_S:
            return Refusal(Outcome.SHED, max(1.0, float(ceil(ticket.due_s - now_s))), True)
        self._tickets.redeem(fingerprint)
        return ticket.arrived_s

    def is_too_long(self, priority: int, waiting: int) -> bool:
        """Whether a newcomer of a priority that may be refused would wait too long, behind the
        `waiting` of its priority and those that were told to come back.
        """
        rate = self.rates.of(priority)
        if waiting < max(1.0, rate * _ALWAYS_S):
            return False
        ahead = waiting + self._tickets.outstanding(priority) + 1
        return ahead / rate > self.config.sheddable_wait_max_s

    def refusal(
        self, asked: Asked, outcome: Outcome, *, waiting: int, arrived_s: float, now_s: float
    ) -> Refusal:
        """With a turn of its own after the `waiting` of its priority, or none within reach."""
        rate = self.rates.of(asked.priority)
        told_s = self._tickets.give(
            asked.fingerprint,
            priority=asked.priority,
            arrived_s=arrived_s,
            wait_s=waiting / rate,
            rate=rate,
            now_s=now_s,
        )
        if told_s is None:
            return Refusal(outcome, self.config.retry_after_max_s, False)
        return Refusal(outcome, told_s, True)
