"""A recorded decision, made again.

Problem: an explanation that does not lead to the same choice explains nothing, and "what would that
policy have done" can only be asked of what a decision really saw. Model: `as_seen` puts the columns
of that moment together again; `reevaluated` runs a profile on them with the numbers that were drawn
then; plugins that learn say what they said then, because they know more by now (`as_it_was`).
Invariants: the profile that decided chooses the same rows; nothing is charged or learned. Of a
large pool too little is kept, so it cannot be done.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from inferway.picker.flowcontrol.pool_flow import NO_ROOM
from inferway.picker.scheduling.contracts import Learns
from inferway.picker.scheduling.profile import TermDroppedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.picker.explain import Choice
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Random, Request
    from inferway.picker.scheduling.profile import Profile


class Seen(NamedTuple):
    request: Request
    endpoints: Endpoints


class Replayed:
    """The numbers that a decision drew, in their order, then new ones."""

    def __init__(self, draws: Sequence[float | Floats], rest: Random) -> None:
        self._draws = list(draws)
        self._rest = rest

    @overload
    def random(self) -> float: ...
    @overload
    def random(self, size: int) -> Floats: ...
    def random(self, size: int | None = None) -> float | Floats:
        if self._draws:
            drawn = self._draws.pop(0)
            if size is None and isinstance(drawn, float):
                return drawn
            if size is not None and not isinstance(drawn, float) and len(drawn) == size:
                return drawn
            self._draws.clear()  # somebody else's numbers
        return self._rest.random() if size is None else self._rest.random(size)


def as_seen(choice: Choice) -> Seen:
    """What the profile was given. ValueError when not all of it was kept."""
    if not choice.whole:
        raise ValueError("of a decision on a large pool only the endpoints it named are kept")
    request, endpoints = choice.weighed.request, choice.weighed.endpoints
    count = len(endpoints)
    return Seen(
        request._replace(
            adapter_tier=None if choice.tiers is None else np.frombuffer(choice.tiers),
            candidates=_before_filters(choice),
        ),
        replace(
            endpoints,
            load=np.frombuffer(choice.load).reshape(-1, count),
            metrics_age_s=np.frombuffer(choice.ages_s),
        ),
    )


def reevaluated(
    choice: Choice, profile: Profile, draws: Sequence[float | Floats], rest: Random
) -> list[int]:
    """Rows that the profile chooses, best first. `rest` is drawn from when `draws` are used up."""
    request, endpoints = as_seen(choice)
    if (endpoints.weight < 1.0).any():
        draws = draws[1:]  # who took part despite back-pressure: `removals` has what came of it
    rng = Replayed(draws, rest)
    request, _ = profile.filter(request, endpoints, ())
    costs, _ = profile.rate(request, endpoints, choice.sequence, rng)
    candidates, room = request.candidates, dict(choice.weighed.removals).get(NO_ROOM)
    if room is not None:
        candidates = room if candidates is None else room & candidates
    return profile.picker.choose(costs, candidates, rng, count=max(len(choice.rows), 1))


def as_it_was(choice: Choice) -> Profile:
    """The profile that decided, with what its learning plugins said then in their place."""
    profile = choice.profile
    if not profile.learners:
        return profile
    masks = dict(choice.weighed.removals)
    raws = {term.name: raw for term, raw in zip(profile.terms, choice.weighed.terms, strict=False)}
    return profile.instead(
        filters=[
            (name, _Kept(masks.get(name)) if isinstance(plugin, Learns) else plugin)
            for name, plugin in profile.filters
        ],
        costs=[
            (term, _Said(raws.get(term.name)) if isinstance(plugin, Learns) else plugin)
            for term, plugin in profile.costs
        ],
        scorers=[
            (term, _Said(raws.get(term.name)) if isinstance(plugin, Learns) else plugin)
            for term, plugin in profile.scorers
        ],
    )


class _Kept:
    """A filter's answer of then. One that removed nobody is not in the record."""

    def __init__(self, mask: Bools | None) -> None:
        self._mask = mask

    def keep(self, _request: Request, endpoints: Endpoints) -> Bools:
        return np.ones(len(endpoints), dtype=np.bool_) if self._mask is None else self._mask


class _Said:
    """A term's values of then."""

    def __init__(self, raw: Floats | None) -> None:
        self._raw = raw

    def score(self, _request: Request, _endpoints: Endpoints) -> Floats:
        if self._raw is None:
            raise TermDroppedError
        return self._raw

    def cost(self, request: Request, endpoints: Endpoints, _sequence: int, _rng: Random) -> Floats:
        return self.score(request, endpoints)


def _before_filters(choice: Choice) -> Bools | None:
    """Who could be chosen before the profile's own filters ran."""
    later = {NO_ROOM, *(name for name, _ in choice.profile.filters)}
    mask: Bools | None = None
    for by, keep in choice.weighed.removals:
        if by not in later:
            mask = keep if mask is None else mask & keep
    return mask
