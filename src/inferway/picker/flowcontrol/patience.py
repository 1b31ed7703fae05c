"""How long a request waits for the endpoint that suits it best.

Problem: waiting for the best endpoint costs time, going to another one costs what made it the best.
Model: both are compared in seconds, as in ski rental: who has waited as long as the other choice
would cost takes the other choice, so nobody pays more than twice the best. Costs that count seconds
say what one second of waiting weighs in them (`wait_weight`); scores do not, so there the whole
weight of a profile is worth `SCORES_S`. A profile with a cost that has no such meaning (a number of
requests, a random number) has no reason to wait for anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from inferway.picker.scheduling.profile import Profile

SCORES_S: Final = 2.0


def seconds_per_cost(profile: Profile) -> float:
    """What a difference in the profile's cost is multiplied with; 0: waiting is for nothing."""
    weighing = sum(
        getattr(plugin, "wait_weight", float("nan")) * term.weight for term, plugin in profile.costs
    )
    if profile.costs:
        return 1.0 / weighing if weighing > 0.0 else 0.0
    scored = sum(abs(term.weight) for term, _ in profile.scorers)
    return SCORES_S / scored if scored else 0.0
