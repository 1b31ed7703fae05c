"""Profiles of several plugins for `bench.decision`: ours alone, and with one of somebody else's.

The second one is what a plugin from a file costs: read-only columns, and an answer that is copied,
checked and timed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from inferway.picker.config import PluginConfig, ProfileConfig
from inferway.picker.scheduling.isolation import Counts, Guard, isolated
from inferway.picker.scheduling.profile import Profile, Term
from inferway.picker.scheduling.registry import profile_of

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request

_CONFIG = ProfileConfig(
    plugins=(
        PluginConfig(
            type="utilization-filter",
            parameters={"conditions": [{"metric": "waiting-queue", "maxValue": 3}]},
        ),
        PluginConfig(type="marginal-cost"),
        PluginConfig(type="session-affinity-scorer", weight=0.05),
        PluginConfig(type="active-request-scorer", weight=0.01),
    )
)


class FewPending:
    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        score: Floats = 1.0 / (1.0 + endpoints.pending_tokens)
        return score


def composed() -> Profile:
    """A filter, the default cost and two scorers."""
    return profile_of("composed", _CONFIG)


def with_foreign() -> Profile:
    """The default cost and a scorer in its shell."""
    guard = Guard(time.perf_counter, lambda problem: None, Counts())
    shell = isolated(FewPending(), guard)
    terms = [*profile_of("marginal-cost").terms, Term("few-pending", shell, 0.01, True)]
    return Profile("with a foreign scorer", terms)
