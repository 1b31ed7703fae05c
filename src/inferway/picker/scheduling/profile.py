"""A profile: filters in order, then costs and scores with weights, then a picker.

    cost = Σ weight · cost_i - Σ weight · score_j        over the candidates; the lowest wins

Problem: one rule does not fit every pool, and a rule that sees everything at once cannot be
combined. Model: a profile is a list of plugins, each with a name and a weight; what a plugin does
follows from its methods, and one plugin may do several things. Beside a cost, the weight of a
scorer is in the cost's unit per unit of score. Invariants: filters run in the order of the list and
only ever drop; a filter that would drop everyone left is passed over unless it is `required`; a
term that drops out (isolation.py) leaves the others as they are, and when none has an answer, the
fewest requests in flight win.

A profile that is one cost is the usual case, and must not pay for the rest: `single` is its bound
method, to be called directly.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from inferway.picker.scheduling.contracts import Cost, Filter, Learns, Picker, Request, Scorer
from inferway.picker.scheduling.select import LowestCost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferway.picker.scheduling.contracts import (
        Bools,
        Endpoints,
        Floats,
        Plugin,
        Random,
    )

_new = tuple.__new__  # takes a third of what `_replace` of a named tuple takes


class TermDroppedError(Exception):
    """Raised by a part that has no answer for this request; it is then left out."""


class Term(NamedTuple):
    """One plugin of a profile."""

    name: str
    plugin: Plugin
    weight: float = 1.0  # of its costs and scores
    may_drop_out: bool = False  # it may raise TermDroppedError


class Removal(NamedTuple):
    """Who one step left."""

    by: str
    keep: Bools


class Filtered(NamedTuple):
    request: Request  # with the candidates that are left
    removals: tuple[Removal, ...]


class Profile:
    """Plugins in their order. ValueError when they cannot make a decision together.

    `is_complete` False: a plugin that belongs here could not be made.
    """

    def __init__(self, name: str, terms: Sequence[Term], *, is_complete: bool = True) -> None:
        names = [term.name for term in terms]
        twice = sorted({one for one in names if names.count(one) > 1})
        if twice:
            raise ValueError(f"profile {name}: plugin named twice: {', '.join(twice)}")
        pickers = [(term.name, term.plugin) for term in terms if isinstance(term.plugin, Picker)]
        if len(pickers) > 1:
            found = ", ".join(one for one, _ in pickers)
            raise ValueError(f"profile {name}: more than one picker: {found}")
        self.name = name
        self.filters = [(term.name, t) for term in terms if isinstance(t := term.plugin, Filter)]
        self.costs = [(term, t) for term in terms if isinstance(t := term.plugin, Cost)]
        self.scorers = [(term, t) for term in terms if isinstance(t := term.plugin, Scorer)]
        self.learners = [t for term in terms if isinstance(t := term.plugin, Learns)]
        self.bind()
        self._may_be_mute = not is_complete or any(term.may_drop_out for term in terms)
        self.picker: Picker = pickers[0][1] if pickers else LowestCost()
        self.single: Callable[[Request, Endpoints, int, Random], Floats] | None = None
        if len(self.costs) == 1 and not self.scorers:
            term, plugin = self.costs[0]
            if term.weight == 1.0 and not term.may_drop_out and not self.filters:
                self.single = plugin.cost

    def bind(self) -> None:
        """Looks up the methods that `rate` calls. Again whenever plugins were exchanged."""
        self._rated_costs = [(t.cost, term.weight) for term, t in self.costs]
        self._rated_scores = [(t.score, term.weight) for term, t in self.scorers]

    def instead(
        self,
        *,
        filters: list[tuple[str, Filter]],
        costs: list[tuple[Term, Cost]],
        scorers: list[tuple[Term, Scorer]],
    ) -> Profile:
        """Others in the places of its plugins, to make a decision again."""
        made = copy(self)
        made.filters, made.costs, made.scorers = filters, costs, scorers
        made.bind()
        return made

    @property
    def terms(self) -> list[Term]:
        """What `rate` adds up, in its order: costs, then scorers."""
        return [term for term, _ in self.costs] + [term for term, _ in self.scorers]

    def filter(
        self, request: Request, endpoints: Endpoints, removals: tuple[Removal, ...]
    ) -> Filtered:
        """Runs the filters; adds what each left to `removals`."""
        for name, plugin in self.filters:
            candidates = request.candidates
            try:
                keep = plugin.keep(request, endpoints)
            except TermDroppedError:
                continue
            left = keep if candidates is None else keep & candidates
            if left.any():
                if not keep.all():
                    removals = (*removals, Removal(name, keep))
                    request = _new(Request, (*request[:6], left, request[7]))
            elif getattr(plugin, "required", False):
                refused = request._replace(candidates=left)
                return Filtered(refused, (*removals, Removal(name, keep)))
        return Filtered(request, removals)

    def rate(
        self, request: Request, endpoints: Endpoints, sequence: int, rng: Random
    ) -> tuple[Floats, tuple[Floats | None, ...]]:
        """The cost of each endpoint, and the raw values of `terms`; None for one that dropped out.

        With nobody left to choose from, all zero and no values.
        """
        if request.candidates is not None and not request.candidates.any():
            return np.zeros(len(endpoints)), ()
        total: Floats | None = None
        values: list[Floats | None] = []
        for cost, weight in self._rated_costs:
            try:
                raw = cost(request, endpoints, sequence, rng)
            except TermDroppedError:
                values.append(None)
                continue
            values.append(raw)
            if total is None:
                total = raw * weight
            else:
                total += raw * weight
        for score, weight in self._rated_scores:
            try:
                raw = score(request, endpoints)
            except TermDroppedError:
                values.append(None)
                continue
            values.append(raw)
            if total is None:
                total = raw * -weight
            else:
                total -= raw * weight
        if total is None:
            mute = self._may_be_mute
            total = endpoints.in_flight.copy() if mute else np.zeros(len(endpoints))
        return total, tuple(values)
