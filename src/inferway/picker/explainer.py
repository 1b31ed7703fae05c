"""Answers questions about recorded decisions, in between decisions.

Problem: looking through thousands of records and spelling one out takes milliseconds, on the thread
that decides. Model: the work is done in slices, with a turn for the event loop whenever a slice of
time is used up. Invariant: at most `QUERY_CANDIDATES_MAX` endpoints are told in one answer, however
much is asked for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from inferway.picker.explain_messages import ExplainAnswer, Reach
from inferway.picker.explained import candidates_of, explanation
from inferway.picker.reevaluation import reevaluated
from inferway.picker.scheduling.registry import profile_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from inferway._native import Pick
    from inferway.picker.explain import Recorded, Ring
    from inferway.picker.explain_messages import Candidate, ExplainQuery, Explanation
    from inferway.picker.scheduling.contracts import Random
    from inferway.picker.scheduling.profile import Profile

SLICE_S: Final = 0.0005  # the longest that a question keeps decisions waiting
QUERY_CANDIDATES_MAX: Final = 20_000
_LOOK_EVERY: Final = 32  # records between two looks at the clock
_SEED: Final = 1  # a question has the same answer twice


class Explainer:
    """`clock` is that of the ring, `wall` tells the time of day."""

    def __init__(
        self, ring: Ring, *, clock: Callable[[], float], wall: Callable[[], datetime]
    ) -> None:
        self._ring = ring
        self._clock = clock
        self._wall = wall
        self._slice_ends_s = 0.0

    async def answer(self, query: ExplainQuery) -> ExplainAnswer:
        self._slice_ends_s = self._clock() + SLICE_S
        found: list[Explanation] = []
        left = QUERY_CANDIDATES_MAX
        other = profile_of(query.policy) if query.policy else None
        rng = np.random.default_rng(_SEED)
        for number, record in enumerate(self._ring.newest_first()):
            if number % _LOOK_EVERY == 0:
                await self._give_way()
            if not _matches(record, query):
                continue
            one = await self._explained(record, min(query.candidates_max, left))
            left -= len(one.candidates)
            if other is not None:
                one = one.model_copy(update={"would_be": would_be(record, other, rng)})
                await self._give_way()
            found.append(one)
            if len(found) >= query.newest:
                break
        return ExplainAnswer(
            answer_to=query.question, explanations=tuple(found), reach=self.reach()
        )

    def reach(self) -> Reach:
        ring, now_s = self._ring, self._clock()
        return Reach(
            recorded=len(ring),
            recorded_max=ring.decisions_max,
            forgotten=ring.forgotten,
            passed_over=ring.passed_over,
            bytes_used=ring.bytes_used,
            bytes_max=ring.bytes_max,
            oldest_age_s=None if ring.oldest_s is None else max(now_s - ring.oldest_s, 0.0),
            up_s=now_s - ring.started_s,
        )

    async def _explained(self, record: Recorded, candidates_max: int) -> Explanation:
        shown: list[Candidate] = []
        if record.choice is not None and candidates_max:
            for candidate in candidates_of(record.choice, candidates_max):
                shown.append(candidate)
                await self._give_way()
        return explanation(record, shown, now_s=self._clock(), now=self._wall())

    async def _give_way(self) -> None:
        if self._clock() >= self._slice_ends_s:
            await asyncio.sleep(0)
            self._slice_ends_s = self._clock() + SLICE_S


def would_be(record: Recorded, profile: Profile, rng: Random) -> str:
    """Whom the profile would have chosen, with everything as it was. It learns nothing from it; it
    draws what was drawn then, and more from `rng`.
    """
    choice = record.choice
    if choice is None or not choice.whole:
        return ""
    rows = reevaluated(choice, profile, choice.draws, rng)
    return choice.weighed.endpoints.addresses[rows[0]] if rows else ""


def _matches(record: Recorded, query: ExplainQuery) -> bool:
    pick = cast("Pick", record.pick)
    if query.request_id and pick.request_id != query.request_id:
        return False
    if query.pool and pick.pool != query.pool:
        return False
    if query.outcome and record.outcome != query.outcome:
        return False
    return not query.endpoint or query.endpoint in _endpoints(record)


def _endpoints(record: Recorded) -> tuple[str, ...]:
    """Where it was sent, and who answered."""
    choice, done = record.choice, record.done
    chosen = (choice.weighed.endpoints.addresses[choice.rows[0]],) if choice and choice.rows else ()
    return chosen if done is None else (*chosen, done.endpoint)
