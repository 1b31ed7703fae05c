"""The plugins that a profile can name by type, and the policies: profiles that have a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.config import PluginConfig, ProfileConfig
from inferway.picker.scheduling.least_request import LeastRequest
from inferway.picker.scheduling.marginal_cost import MarginalCost
from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.profile import Profile, Term
from inferway.picker.scheduling.random_choice import RandomChoice
from inferway.picker.scheduling.round_robin import RoundRobin
from inferway.picker.scheduling.weighted_sum import WeightedSum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.picker.scheduling.plugins import Factory

PLUGINS: Mapping[str, Factory] = {
    MarginalCost.name: MarginalCost,
    WeightedSum.name: WeightedSum,
    LeastRequest.name: LeastRequest,
    RoundRobin.name: RoundRobin,
    RandomChoice.name: RandomChoice,
}

POLICIES: Mapping[str, ProfileConfig] = {
    name: ProfileConfig(plugins=(PluginConfig(type=name),))
    for name in (
        MarginalCost.name,
        WeightedSum.name,
        LeastRequest.name,
        RoundRobin.name,
        RandomChoice.name,
    )
}


def profile_of(policy: str, config: ProfileConfig | None = None) -> Profile:
    """A new profile, for one pool: as configured, or else the policy of that name.

    ValueError says what is wrong, and names what there is.
    """
    if config is None:
        if policy not in POLICIES:
            raise ValueError(f"policy: {policy!r}; known: {', '.join(POLICIES)}")
        config = POLICIES[policy]
    return Profile(policy, [_term(plugin) for plugin in config.plugins])


def _term(config: PluginConfig) -> Term:
    name = config.name or config.type
    factory = PLUGINS.get(config.type)
    if factory is None:
        raise ValueError(f"plugin {name}: type {config.type!r}; known: {', '.join(PLUGINS)}")
    return Term(name, made(factory, config.parameters, name=f"plugin {name}"), config.weight)
