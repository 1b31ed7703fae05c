"""Which request of a flow goes first: one number, lower first.

Sources: the reference's fcfs-, edf- and slo-deadline-ordering-policy. Equal numbers go by arrival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.flowcontrol.waiting import FOR_EVER

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.config import Ordering


def order_of(ordering: Ordering, *, arrived_s: float, expires_s: float, slo_ttft_ms: int) -> float:
    """fcfs: when it came. edf: when its time to live ends. slo-deadline: when its first token is
    due (0 ms: it did not say, and goes last).
    """
    if ordering == "fcfs":
        return arrived_s
    if ordering == "edf":
        return expires_s
    return arrived_s + slo_ttft_ms * 1e-3 if slo_ttft_ms else FOR_EVER
