"""Whether an endpoint, or a pool, has room: the contract of detectors, and what they share.

A saturation is a ratio: below 1 there is room, at 1 the endpoint takes no more work (or takes it
into a queue). A priority may be held to a part of it (ceilings.py). Every detector counts what we
have sent since its last scrape, because a whole queue could go between two scrapes. Unknown is
not full: an endpoint that tells nothing is limited by nothing but what the detector counts itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats


class Scraped(NamedTuple):
    """One good reading of an endpoint; None: its engine does not tell."""

    waiting: float | None
    running: float | None
    kv_usage_ratio: float | None
    own_requests: float  # ours in flight there while it was read


class Table(Protocol):
    """The part of `EndpointTable` that detectors read."""

    @property
    def addresses(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> Mapping[str, int]: ...
    def view(self) -> Endpoints: ...
    def in_flight(self, row: int) -> float: ...
    def accounting(self, row: int) -> tuple[float, float, float]: ...
    def picks(self, row: int) -> int: ...


class Detector(Protocol):
    """One pool's. `full_ratio`: the saturation from which on an endpoint is passed over."""

    @property
    def full_ratio(self) -> float: ...

    def bind(self, table: Table) -> None:
        """From now on these are the endpoints; what is known of an address that stays is kept."""
        ...

    def scraped(self, row: int, scraped: Scraped, now_s: float) -> None: ...

    def saturation(self, row: int, now_s: float) -> float:
        """Of one endpoint. On the path of every request."""
        ...

    def saturations(self, now_s: float) -> Floats:
        """Of all, shape (N,). NaN: not to be counted."""
        ...


def pool_saturation(saturations: Floats, ready: Bools) -> float:
    """The mean over ready endpoints that count; 1 when there is none that is ready."""
    if not ready.any():
        return 1.0
    counted = saturations[ready & ~np.isnan(saturations)]
    return float(counted.mean()) if len(counted) else 0.0
