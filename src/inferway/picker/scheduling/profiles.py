"""Which profile each pool has.

Problem: configurations come often (every change of a server's health is one), and what a profile
has learned must not be lost each time. Model: a pool keeps its profile for as long as what made it
stays the same. Invariant: `build` changes nothing; `keep` puts into force what it answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from inferway.picker.scheduling.registry import profile_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.picker.config import PoolConfig, ProfileConfig
    from inferway.picker.scheduling.profile import Profile


class _Made(NamedTuple):
    policy: str
    config: ProfileConfig | None
    profile: Profile


class Profiles:
    """Profiles of all pools. Outlives runtimes."""

    def __init__(self) -> None:
        self._made: dict[str, _Made] = {}

    def build(self, pools: Iterable[PoolConfig]) -> dict[str, _Made]:
        """What each pool would have. ValueError when one cannot be made."""
        return {pool.name: self._of(pool) for pool in pools}

    def keep(self, made: dict[str, _Made]) -> None:
        self._made = made

    def __getitem__(self, pool: str) -> Profile:
        return self._made[pool].profile

    def _of(self, pool: PoolConfig) -> _Made:
        before = self._made.get(pool.name)
        if before is not None and (before.policy, before.config) == (pool.policy, pool.profile):
            return before
        try:
            profile = profile_of(pool.policy, pool.profile)
        except ValueError as problem:
            raise ValueError(f"pool {pool.name}: {problem}") from problem
        return _Made(pool.policy, pool.profile, profile)
