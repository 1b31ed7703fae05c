"""The policies: profiles that have a name.

A pool names one in the annotation `inferway.dev/policy`. Most are a single cost; two are the
reference picker's defaults, put together from its parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inferway.picker.config import PluginConfig, ProfileConfig

if TYPE_CHECKING:
    from collections.abc import Mapping


def _of(*plugins: tuple[str, float]) -> ProfileConfig:
    return ProfileConfig(
        plugins=tuple(PluginConfig(type=type_, weight=weight) for type_, weight in plugins)
    )


def _one(name: str) -> tuple[str, ProfileConfig]:
    return name, _of((name, 1.0))


POLICIES: Final[Mapping[str, ProfileConfig]] = dict(
    (
        _one("marginal-cost"),
        # llm-d-router and Gateway API Inference Extension 1.4: their default profile and weights.
        (
            "reference-default",
            _of(
                ("queue-scorer", 2.0),
                ("kv-cache-utilization-scorer", 2.0),
                ("prefix-cache-scorer", 3.0),
                ("max-score-picker", 1.0),
            ),
        ),
        # llm-d's default since August 2026.
        (
            "sticky-until-saturated",
            _of(
                ("prefix-cache-affinity-filter", 1.0),
                ("token-load-scorer", 1.0),
                ("max-score-picker", 1.0),
            ),
        ),
        _one("lmetric"),
        _one("expected-ttft"),
        _one("least-request"),
        _one("power-of-two"),
        _one("consistent-hash"),
        _one("round-robin"),
        _one("random"),
    )
)
