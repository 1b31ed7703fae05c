"""From what was recorded of a decision to what people are shown.

Model: pure functions over a `Recorded`. A candidate's terms are the raw values that the decision
itself computed, times their weights; who removed an endpoint is the first mask that lacks it. All
of it is made when somebody asks; candidates come one by one, so that the caller can give way to
decisions in between.
"""

from __future__ import annotations

from datetime import timedelta
from math import isfinite
from typing import TYPE_CHECKING, Final, Protocol, cast, runtime_checkable

import numpy as np

from inferway.observability.names import OTHER_LABEL
from inferway.picker.explain_messages import Candidate, Ending, Explanation, Term
from inferway.picker.metrics import STREAM_ENDS
from inferway.picker.reevaluation import as_seen
from inferway.picker.scheduling.reason import cost_unit, margin, reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from inferway._native import Done, Pick
    from inferway.picker.explain import Choice, Recorded
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request

# Index = the `fault` of a DONE frame; the last stands for codes of a newer minor version.
FAULTS: Final = (
    "",
    "truncated",
    "reset_after_first_byte",
    "first_token_deadline",
    "idle_timeout",
    OTHER_LABEL,
)
_END_OTHER: Final = len(STREAM_ENDS) - 1


@runtime_checkable
class Parted(Protocol):
    """A cost that tells what it consists of."""

    def parts(self, request: Request, endpoints: Endpoints) -> dict[str, Floats]: ...


def explanation(
    record: Recorded, candidates: Sequence[Candidate], *, now_s: float, now: datetime
) -> Explanation:
    """`now_s` and `now` are the same moment, on the picker's clock and on the wall."""
    pick, choice = cast("Pick", record.pick), record.choice
    age_s = max(now_s - record.at_s, 0.0)
    whole = Explanation(
        request_id=pick.request_id,
        at=(now - timedelta(seconds=age_s)).isoformat(timespec="milliseconds"),
        age_s=age_s,
        pool=pick.pool,
        outcome=str(record.outcome),
        waited_s=record.waited_s,
        priority=record.priority,
        model=pick.model,
        served_model=record.model,
        objective=pick.objective,
        repeated=pick.repeated,
        ended=None if record.done is None else ending(record.done),
    )
    return whole if choice is None else _with_choice(whole, choice, candidates)


def _with_choice(
    whole: Explanation, choice: Choice, candidates: Sequence[Candidate]
) -> Explanation:
    weighed, rows = choice.weighed, choice.rows
    request, addresses = weighed.request, weighed.endpoints.addresses
    kept = tuple(rows) if choice.whole else tuple(range(len(rows)))
    total = len(addresses)
    left = weighed.candidates
    return whole.model_copy(
        update={
            "policy": choice.profile.name,
            "prompt_tokens": round(request.prompt_tokens, 1),
            "output_tokens": round(request.output_tokens, 1),
            "winner": addresses[rows[0]] if rows else "",
            "runner_up": addresses[rows[1]] if len(rows) > 1 else "",
            "margin": _number(margin(weighed, *kept[:2])) if len(rows) > 1 else None,
            "cost_unit": cost_unit(choice.profile),
            "reason": reason(choice.profile, weighed, kept),
            "draws": tuple(one for one in choice.draws if isinstance(one, float)),
            "candidates": tuple(candidates),
            "endpoints_total": total,
            "candidates_total": total if left is None else int(left.sum()),
            "removed": _removed(choice),
        }
    )


def ending(done: Done) -> Ending:
    usage = done.usage
    return Ending(
        how=STREAM_ENDS[min(done.end, _END_OTHER)],
        fault=FAULTS[min(done.fault, len(FAULTS) - 1)],
        attempts=done.attempts,
        status=done.status,
        endpoint=done.endpoint,
        ttft_s=done.ttft_us * 1e-6 if done.ttft_us else None,
        duration_s=done.duration_us * 1e-6,
        prompt_tokens=done.prompt_tokens if usage else None,
        cached_tokens=done.cached_tokens if usage else None,
        completion_tokens=done.completion_tokens if usage else None,
    )


def candidates_of(choice: Choice, limit: int) -> Iterator[Candidate]:
    """Endpoints as the decision saw them: those chosen in their order, then candidates by cost,
    then those that were removed; at most `limit`.
    """
    columns = _Columns(choice)
    for at, row in columns.order()[:limit]:
        yield columns.candidate(at, row)


class _Columns:
    """Everything of a choice by position: a row of the pool, or a place among the kept rows."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._rows: Sequence[int] = (
            range(len(choice.weighed.endpoints)) if choice.whole else choice.rows
        )
        self._load = np.frombuffer(choice.load).reshape(-1, len(self._rows))
        self._ages_s = np.frombuffer(choice.ages_s)
        self._tiers = None if choice.tiers is None else np.frombuffer(choice.tiers)
        self._places = {row: place for place, row in enumerate(choice.rows, 1)}
        self._parts = _parts(choice) if choice.whole else {}

    def order(self) -> list[tuple[int, int]]:
        """Positions and rows."""
        costs, candidates = self._choice.weighed.costs, self._choice.weighed.candidates

        def rank(pair: tuple[int, int]) -> tuple[int, float, int]:
            at, row = pair
            if row in self._places:
                return 0, self._places[row], row
            return 1 if candidates is None or candidates[row] else 2, costs.item(at), row

        return sorted(enumerate(self._rows), key=rank)

    def candidate(self, at: int, row: int) -> Candidate:
        weighed = self._choice.weighed
        endpoints, request, candidates = weighed.endpoints, weighed.request, weighed.candidates
        removed = candidates is not None and not candidates[row]
        tier = None if self._tiers is None else int(self._tiers[at])
        return Candidate(
            address=endpoints.addresses[row],
            place=self._places.get(row, 0),
            removed_by=self._remover(row) if removed else "",
            cost=None if removed else _number(weighed.costs.item(at)),
            terms=() if removed else tuple(self._terms(at)),
            in_flight=int(self._load[0, at]),
            pending_tokens=int(self._load[1, at]),
            context_tokens=int(self._load[2, at]),
            matched_tokens=round(request.matched_tokens.item(at), 1),
            adapter_tier=tier,
            waiting=_known(endpoints.waiting, row),
            running=_known(endpoints.running, row),
            kv_usage_ratio=_known(endpoints.kv_usage_ratio, row),
            foreign_requests=_known(endpoints.foreign_requests, row),
            weight=_known(endpoints.weight, row),
            metrics_age_s=_known(self._ages_s, at),
        )

    def _terms(self, at: int) -> Iterator[Term]:
        profile = self._choice.profile
        costs = len(profile.costs)
        # With nobody left, a profile has no values at all.
        for number, (term, raw) in enumerate(
            zip(profile.terms, self._choice.weighed.terms, strict=False)
        ):
            value = None if raw is None else raw.item(at)
            weight = term.weight if number < costs else -term.weight
            cost = None if value is None else value * weight
            yield Term(
                name=term.name,
                raw=None if value is None else _number(value),
                cost=None if cost is None else _number(cost),
                parts={
                    name: column.item(at) for name, column in self._parts.get(term.name, {}).items()
                },
            )

    def _remover(self, row: int) -> str:
        removals = self._choice.weighed.removals
        return next((by for by, keep in removals if not keep[row]), "")


def _parts(choice: Choice) -> dict[str, dict[str, Floats]]:
    """By term, what its cost consists of: computed now from what was seen then."""
    request, endpoints = as_seen(choice)
    return {
        term.name: plugin.parts(request, endpoints)
        for term, plugin in choice.profile.costs
        if isinstance(plugin, Parted)
    }


def _removed(choice: Choice) -> dict[str, int]:
    """How many endpoints each step dropped that were still there."""
    counts: dict[str, int] = {}
    left = np.ones(len(choice.weighed.endpoints), dtype=np.bool_)
    for by, keep in choice.weighed.removals:
        counts[by] = int((left & ~keep).sum())
        left &= keep
    return {by: count for by, count in counts.items() if count}


def _known(column: Floats, at: int) -> float | None:
    return _number(column.item(at))


def _number(value: float) -> float | None:
    """None for what is no number, which JSON does not have."""
    return value if isfinite(value) else None
