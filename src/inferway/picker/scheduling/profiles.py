"""Which profile each pool has.

Problem: configurations come often (every change of a server's health is one), and what a plugin has
learned must not be lost each time; a file with a new version of a plugin may be wrong. Model: a
plugin stays for as long as what made it stays the same; one of others is made anew when its source
has another version, and keeps working when that cannot be made. One that could never be made leaves
its place empty and says why. Invariants: `build` changes nothing, `keep` puts into force what it
answered; a mistake with our own plugins is a ValueError, one with others' never is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import is_
from typing import TYPE_CHECKING

from inferway.picker.config import PluginConfig, PluginStatus, ProfileConfig
from inferway.picker.scheduling.isolation import Counts, Guard, isolated
from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.profile import Profile, Term
from inferway.picker.scheduling.registry import PLUGINS, POLICIES, policy, term_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from inferway.picker.config import PoolConfig
    from inferway.picker.scheduling.sources import Found, PluginSource


@dataclass(frozen=True, slots=True)
class _Foreign:
    """What is known of a plugin that others wrote."""

    found: Found
    counts: Counts
    guard: Guard | None  # of the version in force; None: none is
    version: str  # in force
    error: str


@dataclass(frozen=True, slots=True)
class _Place:
    """One plugin of a profile. `term` is None where none could be made."""

    config: PluginConfig
    term: Term | None
    foreign: _Foreign | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """One pool's profile and what it was made of."""

    profile: Profile
    places: dict[str, _Place]


class Profiles:
    """Profiles of all pools. Outlives runtimes. `told(pool, plugin, problem)` hears of faults."""

    def __init__(
        self,
        source: PluginSource,
        clock: Callable[[], float],
        told: Callable[[str, str, str], None],
    ) -> None:
        self._source = source
        self._clock = clock
        self._told = told
        self._built: dict[str, Built] = {}

    def build(self, pools: Iterable[PoolConfig]) -> dict[str, Built]:
        """What each pool would have. ValueError when one cannot be made."""
        return {pool.name: self._of(pool) for pool in pools}

    def keep(self, built: dict[str, Built]) -> None:
        before, self._built = self._built, built
        for pool, now in built.items():
            for name, place in now.places.items():
                if place.foreign is None or not place.foreign.error:
                    continue
                last = before[pool].places.get(name) if pool in before else None
                if (
                    last is None
                    or last.foreign is None
                    or last.foreign.error != place.foreign.error
                ):
                    self._told(pool, name, place.foreign.error)

    def __getitem__(self, pool: str) -> Profile:
        return self._built[pool].profile

    def status(self, pool: str) -> tuple[PluginStatus, ...]:
        """The plugins of others that a pool has."""
        return tuple(
            _status(name, place.config.type, place.foreign)
            for name, place in self._built[pool].places.items()
            if place.foreign is not None
        )

    def _of(self, pool: PoolConfig) -> Built:
        before = self._built.get(pool.name)
        places: dict[str, _Place] = {}
        try:
            for config in self._config(pool).plugins:
                name = config.name or config.type
                if name in places:
                    raise ValueError(f"plugin named twice: {name}")
                last = before.places.get(name) if before else None
                places[name] = self._place(pool.name, name, config, last)
            if before is not None and _same(_terms(places), _terms(before.places)):
                return Built(before.profile, places)
            terms = [term for term in _terms(places) if term is not None]
            complete = len(terms) == len(places)
            return Built(Profile(pool.policy, terms, is_complete=complete), places)
        except ValueError as problem:
            raise ValueError(f"pool {pool.name}: {problem}") from problem

    def _config(self, pool: PoolConfig) -> ProfileConfig:
        """The pool's own profile, or its policy; a plugin of others is a policy by itself."""
        if pool.profile is not None:
            return pool.profile
        if pool.policy not in POLICIES and self._source.find(pool.policy) is not None:
            return ProfileConfig(plugins=(PluginConfig(type=pool.policy),))
        return policy(pool.policy)

    def _place(self, pool: str, name: str, config: PluginConfig, last: _Place | None) -> _Place:
        found = None if config.type in PLUGINS else self._source.find(config.type)
        if found is None:
            same = last is not None and last.foreign is None and last.config == config
            return last if last is not None and same else _Place(config, self._own(config))
        before = last.foreign if last is not None and last.config.type == config.type else None
        if before is not None and last is not None and last.config == config:
            if before.found == found:
                return last
            if before.version and before.version == found.version:
                return replace(last, foreign=replace(before, found=found, error=found.error))
        counts = before.counts if before is not None else Counts()
        error = found.error
        if found.factory is not None:
            try:
                plugin = made(found.factory, config.parameters, name=name)
            except (Exception, SystemExit) as problem:  # noqa: BLE001 - users' code, where it comes in
                error = f"{found.source}: {type(problem).__name__}: {problem}"
            else:
                guard = Guard(self._clock, lambda problem: self._told(pool, name, problem), counts)
                term = Term(name, isolated(plugin, guard), config.weight, may_drop_out=True)
                return _Place(config, term, _Foreign(found, counts, guard, found.version, error))
        if before is None or last is None or last.term is None:
            return _Place(config, None, _Foreign(found, counts, None, "", error))
        kept = replace(before, found=found, error=error)
        return _Place(config, last.term._replace(weight=config.weight), kept)

    def _own(self, config: PluginConfig) -> Term:
        if config.type not in PLUGINS:
            known = ", ".join((*PLUGINS, *self._source.names()))
            name = config.name or config.type
            raise ValueError(f"plugin {name}: type {config.type!r}; known: {known}")
        return term_of(config)


def _same(terms: list[Term | None], others: list[Term | None]) -> bool:
    return len(terms) == len(others) and all(map(is_, terms, others))


def _terms(places: dict[str, _Place]) -> list[Term | None]:
    return [place.term for place in places.values()]


def _status(name: str, type_: str, foreign: _Foreign) -> PluginStatus:
    guard, counts = foreign.guard, foreign.counts
    return PluginStatus(
        name=name,
        type=type_,
        source=foreign.found.source,
        version=foreign.version,
        error=foreign.error,
        resting=guard is not None and guard.resting,
        problem=guard.problem if guard is not None else "",
        calls=counts.calls,
        seconds=round(counts.seconds, 6),
        faults={cause.value: count for cause, count in counts.faults.items()},
    )
