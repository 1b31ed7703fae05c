"""Plugins of others in their shell: every way to misbehave costs a term, never a request."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway.picker.scheduling.contracts import Cost, Filter, Learns, Picker, Scorer
from inferway.picker.scheduling.isolation import Counts, Guard, isolated
from inferway.picker.scheduling.profile import Profile, Term, TermDroppedError
from inferway.testing import endpoints, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.scheduling.contracts import Endpoints, Random, Request

RNG = np.random.default_rng(1)


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Shell:
    """A scorer in its shell. `answer` makes what it answers; each call takes `took_s`."""

    answer: Callable[[Request, Endpoints], object]
    took_s: float = 0.0
    clock: Clock = field(default_factory=Clock)
    told: list[str] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    calls: int = 0

    def __post_init__(self) -> None:
        guard = Guard(self.clock, self.told.append, self.counts, budget_s=0.001)
        self.guard, self.shell = guard, isolated(self, guard)  # type: ignore[arg-type]

    def score(self, request: Request, endpoints: Endpoints) -> object:
        self.calls += 1
        self.clock.now_s += self.took_s
        return self.answer(request, endpoints)

    def ask(self, count: int = 3) -> list[float] | None:
        assert isinstance(self.shell, Scorer)
        try:
            return self.shell.score(request(count), endpoints(count)).tolist()
        except TermDroppedError:
            return None


def raises(_request: Request, _endpoints: Endpoints) -> object:
    raise KeyError("gpu")


def leaves(_request: Request, _endpoints: Endpoints) -> object:
    sys.exit(3)


def writes(_request: Request, endpoints: Endpoints) -> object:
    endpoints.load[0] += 1.0
    return [0.0] * len(endpoints)


def writes_to_the_request(request: Request, endpoints: Endpoints) -> object:
    request.matched_tokens[:] = 1.0
    return [0.0] * len(endpoints)


@pytest.mark.parametrize(
    ("answer", "cause", "said"),
    [
        (raises, "raised", "KeyError: 'gpu'"),
        (leaves, "raised", "SystemExit: 3"),
        (writes, "raised", "read-only"),
        (writes_to_the_request, "raised", "read-only"),
        (lambda r, e: None, "bad_answer", "shape ()"),
        (lambda r, e: [0.5, 0.5], "bad_answer", "shape (2,); want one value per endpoint: (3,)"),
        (lambda r, e: 0.5, "bad_answer", "shape ()"),
        (lambda r, e: [0.5, float("nan"), 0.1], "bad_answer", "not finite: rows 1"),
        (lambda r, e: [0.5, 1.5, -0.1], "bad_answer", "scores outside [0, 1]: rows 1, 2"),
        (lambda r, e: ["a", "b", "c"], "raised", "could not convert"),
    ],
)
def test_a_fault_drops_the_term_is_counted_and_told(
    answer: Callable[[Request, Endpoints], object], cause: str, said: str
) -> None:
    shell = Shell(answer)
    assert shell.ask() is None
    assert {c.value: n for c, n in shell.counts.faults.items() if n} == {cause: 1}
    assert len(shell.told) == 1
    assert said in shell.told[0]
    assert shell.guard.problem == shell.told[0]


def test_what_a_plugin_answers_is_copied() -> None:
    kept = np.array([0.0, 0.5, 1.0])
    shell = Shell(lambda r, e: kept)
    assert isinstance(shell.shell, Scorer)
    answered = shell.shell.score(request(3), endpoints(3))
    kept[:] = 9.0
    assert answered.tolist() == [0.0, 0.5, 1.0]
    assert Shell(lambda r, e: [0, 1, 1]).ask() == [0.0, 1.0, 1.0]


def test_it_rests_longer_after_every_failed_trial_and_starts_anew_after_a_good_one() -> None:
    shell = Shell(raises)
    rests = []
    for _ in range(9):
        assert shell.ask() is None
        began_s = shell.clock.now_s
        assert shell.guard.resting
        while shell.guard.resting:
            calls = shell.calls
            assert shell.ask() is None
            assert shell.calls == calls, "a plugin that rests is not called"
            shell.clock.now_s += 0.5
        rests.append(shell.clock.now_s - began_s)
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    shell.answer = lambda r, e: [1.0] * len(e)
    assert shell.ask() == [1.0, 1.0, 1.0]
    shell.answer = raises
    assert shell.ask() is None
    shell.clock.now_s += 1.0
    assert not shell.guard.resting


def test_slow_three_times_in_a_row_or_very_slow_once_is_a_fault() -> None:
    shell = Shell(lambda r, e: [0.5] * len(e), took_s=0.002)
    assert shell.ask() == shell.ask() == [0.5] * 3
    shell.took_s = 0.0001
    assert shell.ask() == [0.5] * 3
    shell.took_s = 0.002
    answers = [shell.ask(), shell.ask(), shell.ask()]
    assert answers == [[0.5] * 3] * 3, "a slow answer has been waited for"
    assert shell.told == ["took 2 ms; budget 1 ms"]
    assert shell.ask() is None
    shell.clock.now_s += 1.0
    shell.took_s = 0.2
    assert shell.ask() == [0.5] * 3
    assert shell.ask() is None
    assert shell.told[1:] == ["took 200 ms; budget 1 ms"]
    assert shell.counts.calls == 7
    assert shell.counts.seconds == pytest.approx(0.2101)


@dataclass
class Everything:
    """Has every method; raises in all of them while `broken`."""

    broken: bool = False
    rows: object = None
    learned: list[int] = field(default_factory=list)

    def keep(self, request: Request, endpoints: Endpoints) -> object:
        return self._or_raise([True, False, True])

    def score(self, request: Request, endpoints: Endpoints) -> object:
        return self._or_raise([1.0, 0.0, 0.0])

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> object:
        return self._or_raise([0.0, 0.0, -5.0])

    def choose(self, costs: object, candidates: object, rng: Random, *, count: int) -> object:
        return self._or_raise([0] if self.rows is None else self.rows)

    def placed(self, request: Request, endpoints: Endpoints, row: int) -> None:
        self._or_raise(None)
        self.learned.append(row)

    def _or_raise(self, answer: object) -> object:
        if self.broken:
            raise RuntimeError("no")
        return answer


def profile_of(plugin: Everything) -> tuple[Profile, Guard]:
    guard = Guard(Clock(), lambda problem: None, Counts())
    shell = isolated(plugin, guard)  # type: ignore[arg-type]
    assert all(isinstance(shell, role) for role in (Filter, Scorer, Cost, Picker, Learns))
    return Profile("p", [Term("all", shell, may_drop_out=True)]), guard


def test_a_shell_has_the_methods_that_its_plugin_has() -> None:
    shell = Shell(raises).shell
    roles = [isinstance(shell, role) for role in (Filter, Scorer, Cost, Picker, Learns)]
    assert roles == [False, True, False, False, False]


def test_every_role_works_and_fails_behind_the_shell() -> None:
    plugin = Everything()
    profile, guard = profile_of(plugin)
    assert profile.single is None
    asked, _ = profile.filter(request(3), endpoints(3), ())
    assert asked.candidates is not None
    costs, _ = profile.rate(asked, endpoints(3), 0, RNG)
    assert costs.tolist() == [-1.0, 0.0, -5.0]
    assert profile.picker.choose(costs, asked.candidates, RNG, count=4) == [0]
    profile.learners[0].placed(asked, endpoints(3), 2)
    assert plugin.learned == [2]

    plugin.broken = True
    state = endpoints(3, in_flight=[2.0, 1.0, 3.0])
    asked, removals = profile.filter(request(3), state, ())
    assert (asked.candidates, removals) == (None, ())
    costs, values = profile.rate(asked, state, 0, RNG)
    assert values == (None, None)
    assert costs.tolist() == [2.0, 1.0, 3.0], "nobody rates: the fewest requests in flight win"
    assert profile.picker.choose(costs, None, RNG, count=4) == [1, 0, 2]
    profile.learners[0].placed(asked, state, 1)
    assert plugin.learned == [2]
    assert guard.counts.faults == {"raised": 1, "bad_answer": 0, "too_slow": 0}


@pytest.mark.parametrize("rows", ["ab", [0, 0], [1], [3], [-1], [], [0, 2, 0], 7, [0.5, "x"]])
def test_a_choice_that_is_none_is_made_by_lowest_cost(rows: object) -> None:
    profile, guard = profile_of(Everything(rows=rows))
    candidates = np.array([True, False, True])
    costs = np.array([5.0, 0.0, 1.0])
    assert profile.picker.choose(costs, candidates, RNG, count=2) == [2, 0]
    assert sum(guard.counts.faults.values()) == 1


def test_a_filter_has_to_answer_true_or_false() -> None:
    class Numbers:
        def keep(self, request: Request, endpoints: Endpoints) -> object:
            return np.ones(len(endpoints))

    guard = Guard(Clock(), lambda problem: None, Counts())
    shell = isolated(Numbers(), guard)  # type: ignore[arg-type]
    assert isinstance(shell, Filter)
    with pytest.raises(TermDroppedError):
        shell.keep(request(2), endpoints(2))
    assert guard.problem == "want True or False per endpoint, not float64"
