"""Which endpoints of a pool may get requests, and why the others may not.

Problem: three parties have a say (Envoy's health checks, whoever drains a server, what came of its
requests), they come and go independently, and a person wants to know who it was. Model: one mask
per party; `ready` is where all agree. Ejections alone may be overruled: when more than
`panic_ratio` of the endpoints that are available otherwise are ejected, something else is wrong
than those servers, and all of them are used. So ejections never empty a pool, whatever its size.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferway.picker.scheduling.contracts import Bools


class Unready(StrEnum):
    """Why an endpoint gets no requests; shown to people."""

    CHECKS = "health checks fail"
    DRAINING = "draining"
    EJECTED = "ejected"


class Readiness:
    """Masks of shape (N,). They are replaced, never changed, once handed out."""

    __slots__ = ("available", "masks", "panic", "panic_ratio", "ready")

    def __init__(self, count: int, panic_ratio: float = 1.0) -> None:
        self.panic_ratio = panic_ratio
        self.masks = {reason: np.ones(count, dtype=np.bool_) for reason in Unready}
        self.ready: Bools
        self.available: Bools  # ready, or only ejected
        self.panic = False
        self._settle()

    def put(self, reason: Unready, row: int, holds: bool) -> bool:
        """Whether that is new."""
        mask = self.masks[reason]
        if bool(mask[row]) != holds:
            return False
        self.masks[reason] = mask = mask.copy()
        mask[row] = not holds
        self._settle()
        return True

    def put_all(self, reasons: Mapping[Unready, Sequence[bool]]) -> None:
        """For every row whether the reason holds."""
        for reason, holds in reasons.items():
            self.masks[reason] = ~np.array(holds, dtype=np.bool_)
        self._settle()

    def _settle(self) -> None:
        """Works out who is ready."""
        self.available = self.masks[Unready.CHECKS] & self.masks[Unready.DRAINING]
        ready = self.available & self.masks[Unready.EJECTED]
        available = int(self.available.sum())
        ejected = available - int(ready.sum())
        self.panic = ejected > self.panic_ratio * available
        self.ready = self.available if self.panic else ready

    def removals(self) -> list[tuple[str, Bools]]:
        """Who is kept by each reason that is in force."""
        return [
            (reason.value, mask)
            for reason, mask in self.masks.items()
            if not mask.all() and not (self.panic and reason is Unready.EJECTED)
        ]

    def reason(self, row: int) -> Unready | None:
        """The first reason against a row; None when it is ready."""
        if self.ready[row]:
            return None
        return next(reason for reason, mask in self.masks.items() if not mask[row])
