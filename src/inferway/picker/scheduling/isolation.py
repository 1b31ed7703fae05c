"""Plugins of others, kept from doing harm.

Problem: one plugin that raises, answers nonsense or takes its time must not cost requests. Model:
`isolated` puts a shell around a plugin. The plugin sees columns that it cannot write to; its answer
is copied, checked (shape, finite, scores in [0, 1]) and timed. A fault drops its term for this
request, and the plugin rests for a while: 1 s, twice as long after every fault that follows a rest,
up to a minute. Being slower than the budget is a fault when it happens three times in a row (any
call can meet a busy machine), or once by a factor of 100; a slow answer is used all the same, since
it has been waited for. A picker that faults is replaced by the usual one for this request.

Invariants: nothing that a plugin raises reaches a request; every fault is counted by cause and the
last one told. Not covered: a call that never returns stops the picker, and the filters then act as
the pool's failure mode says. Our own plugins run without a shell and are not timed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar, cast

from inferway.picker.scheduling.answers import BadAnswerError, bools, floats, rows, scores
from inferway.picker.scheduling.contracts import Cost, Filter, Learns, Picker, Scorer
from inferway.picker.scheduling.profile import TermDroppedError
from inferway.picker.scheduling.read_only import read_only, read_only_endpoints, read_only_request
from inferway.picker.scheduling.select import choose

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.scheduling.contracts import (
        Bools,
        Endpoints,
        Floats,
        Plugin,
        Random,
        Request,
    )

BUDGET_S: Final = 0.001
REST_MIN_S: Final = 1.0
REST_MAX_S: Final = 60.0
SLOW_IN_A_ROW: Final = 3
SLOW_AT_ONCE: Final = 100.0
PROBLEM_LENGTH_MAX: Final = 300


Answer = TypeVar("Answer")


class Cause(StrEnum):
    """What was wrong with a call; also the metric label."""

    RAISED = "raised"
    BAD_ANSWER = "bad_answer"
    TOO_SLOW = "too_slow"


class Counts:
    """Calls of one plugin in one pool, over all its versions."""

    __slots__ = ("calls", "faults", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0
        self.faults = dict.fromkeys(Cause, 0)


class Guard:
    """Watches one version of a plugin in one pool, and lets it rest after a fault.

    `told(problem)` is called when it begins to rest.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        told: Callable[[str], None],
        counts: Counts,
        *,
        budget_s: float = BUDGET_S,
    ) -> None:
        self.clock = clock
        self._told = told
        self.counts = counts
        self._budget_s = budget_s
        self.problem = ""  # the last one
        self._rests_until_s = float("-inf")
        self._rest_s = REST_MIN_S
        self._slow_in_a_row = 0
        self._on_trial = False

    @property
    def resting(self) -> bool:
        return self.clock() < self._rests_until_s

    def begin(self) -> float:
        """When the call begins. TermDroppedError while the plugin rests."""
        now_s = self.clock()
        if now_s < self._rests_until_s:
            raise TermDroppedError
        return now_s

    def succeeded(self, began_s: float) -> None:
        took_s = self.clock() - began_s
        self.counts.calls += 1
        self.counts.seconds += took_s
        if took_s <= self._budget_s:
            self._slow_in_a_row = 0
            if self._on_trial:
                self._on_trial, self._rest_s = False, REST_MIN_S
            return
        self._slow_in_a_row += 1
        if self._slow_in_a_row >= SLOW_IN_A_ROW or took_s > SLOW_AT_ONCE * self._budget_s:
            budget_ms = self._budget_s * 1e3
            self._rest(Cause.TOO_SLOW, f"took {took_s * 1e3:.3g} ms; budget {budget_ms:g} ms")

    def failed(self, began_s: float, problem: BaseException) -> None:
        self.counts.calls += 1
        self.counts.seconds += self.clock() - began_s
        if isinstance(problem, BadAnswerError):
            self._rest(Cause.BAD_ANSWER, str(problem))
        else:
            self._rest(Cause.RAISED, f"{type(problem).__name__}: {problem}")

    def _rest(self, cause: Cause, problem: str) -> None:
        self.counts.faults[cause] += 1
        self.problem = problem[:PROBLEM_LENGTH_MAX]
        self._slow_in_a_row = 0
        if self._on_trial:
            self._rest_s = min(2.0 * self._rest_s, REST_MAX_S)
        self._on_trial = True
        self._rests_until_s = self.clock() + self._rest_s
        self._told(self.problem)


def isolated(plugin: Plugin, guard: Guard) -> Plugin:
    """The plugin in its shell, with the same methods."""
    return cast("Plugin", _Shell(plugin, guard))


class _Shell:
    """Has the methods that the plugin has, because a plugin's methods say what it does."""

    keep: Callable[[Request, Endpoints], Bools]
    score: Callable[[Request, Endpoints], Floats]
    cost: Callable[[Request, Endpoints, int, Random], Floats]
    choose: Callable[..., list[int]]
    placed: Callable[[Request, Endpoints, int], None]

    def __init__(self, plugin: Plugin, guard: Guard) -> None:
        self._guard = guard
        self._request: Request | None = None
        self._endpoints: Endpoints | None = None
        self._shown: tuple[Request, Endpoints] | None = None
        self.required = bool(getattr(plugin, "required", False))
        if isinstance(plugin, Filter):
            self.keep = lambda request, endpoints: self._checked(
                lambda: bools(plugin.keep(*self._show(request, endpoints)), len(endpoints))
            )
        if isinstance(plugin, Scorer):
            self.score = lambda request, endpoints: self._checked(
                lambda: scores(plugin.score(*self._show(request, endpoints)), len(endpoints))
            )
        if isinstance(plugin, Cost):
            self.cost = lambda request, endpoints, sequence, rng: self._checked(
                lambda: floats(
                    plugin.cost(*self._show(request, endpoints), sequence, rng), len(endpoints)
                )
            )
        if isinstance(plugin, Picker):
            self.choose = lambda costs, candidates, rng, *, count: self._chosen(
                plugin, costs, candidates, rng, count
            )
        if isinstance(plugin, Learns):
            self.placed = lambda request, endpoints, row: self._learned(
                plugin, request, endpoints, row
            )

    def _checked(self, call: Callable[[], Answer]) -> Answer:
        began_s = self._guard.begin()
        try:
            answer = call()
        except (Exception, SystemExit) as problem:
            self._guard.failed(began_s, problem)
            raise TermDroppedError from problem
        self._guard.succeeded(began_s)
        return answer

    def _chosen(
        self, plugin: Picker, costs: Floats, candidates: Bools | None, rng: Random, count: int
    ) -> list[int]:
        shown = read_only(costs)
        try:
            return self._checked(
                lambda: rows(
                    plugin.choose(shown, candidates, rng, count=count),
                    candidates,
                    endpoints=len(costs),
                    count=count,
                )
            )
        except TermDroppedError:
            return choose(costs, candidates, rng, count=count)

    def _learned(self, plugin: Learns, request: Request, endpoints: Endpoints, row: int) -> None:
        try:
            self._checked(lambda: plugin.placed(*self._show(request, endpoints), row))
        except TermDroppedError:
            return

    def _show(self, request: Request, endpoints: Endpoints) -> tuple[Request, Endpoints]:
        """What the plugin may see. Kept, because several methods are called with the same."""
        if self._shown is None or endpoints is not self._endpoints:
            self._shown = (read_only_request(request), read_only_endpoints(endpoints))
            self._request, self._endpoints = request, endpoints
        elif request is not self._request:
            self._shown = (read_only_request(request), self._shown[1])
            self._request = request
        return self._shown
