"""The policies that a pool can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.scheduling.least_request import LeastRequest
from inferway.picker.scheduling.marginal_cost import MarginalCost
from inferway.picker.scheduling.random_choice import RandomChoice
from inferway.picker.scheduling.round_robin import RoundRobin
from inferway.picker.scheduling.weighted_sum import WeightedSum

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.scheduling.contracts import Policy

POLICIES: dict[str, Callable[[], Policy]] = {
    MarginalCost.name: MarginalCost,
    WeightedSum.name: WeightedSum,
    LeastRequest.name: LeastRequest,
    RoundRobin.name: RoundRobin,
    RandomChoice.name: RandomChoice,
}


def policy(name: str) -> Policy:
    """A new instance, for one pool. ValueError names the policies there are."""
    if name not in POLICIES:
        raise ValueError(f"policy: {name!r}; known: {', '.join(POLICIES)}")
    return POLICIES[name]()
