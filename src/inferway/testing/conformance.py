"""What every plugin must keep to, checked on many random states.

Problem: the contract of a plugin (picker/scheduling/contracts.py) is prose, and a rule that breaks
it works until a metric is missing or a server joins. Model: `violations` puts a plugin through
states of pools of several sizes and says which rules it breaks, with an example each; `check` fails
a test with them.

    answers     the right shape and type, scores in [0, 1], costs finite, choices that are choices
    pure        the same answer to the same question, however often; nothing that it is given is
                changed; what it keeps of one state does not colour the next
    order       endpoints in another order get the same values, also after it has learned (what is
                remembered goes by address). Plugins that draw random numbers are excused
    unknown     a value that is not known never makes a score better, or a cost lower, than any
                reading up to the worst reasonable one does
    candidates  who is no candidate changes nothing for who is
    cost        a call takes so long at most, at 100 endpoints and at 10,000

It does not judge whether the plugin chooses well: the simulator and the gateway's own metrics do.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, overload

import numpy as np

from inferway.picker.scheduling import answers
from inferway.picker.scheduling.contracts import Cost, Filter, Learns, Picker, Scorer
from inferway.picker.scheduling.read_only import read_only_endpoints, read_only_request
from inferway.testing.cases import Case, permuted, random_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from inferway.picker.scheduling.contracts import Bools, Floats, Plugin

    Answers = dict[str, NDArray[np.float64] | NDArray[np.bool_]]
    MakeCase = Callable[[np.random.Generator, int], Case]

COUNTS: Final = (1, 2, 3, 9, 40)  # endpoints of the pools that a plugin is tried on
# The worst reasonable reading of what is scraped: an endpoint that nothing is known of must not
# look better than one that reads this.
WORST: Final[Mapping[str, float]] = {
    "waiting": 12.0,
    "running": 300.0,
    "kv_usage_ratio": 0.9,
    "foreign_requests": 12.0,
}
BUDGETS_S: Final[Mapping[int, float]] = {100: 0.000_2, 10_000: 0.001}
_TRIES: Final = 100  # the fastest of so many calls counts: others meet a busy machine
_CLOSE: Final = 1e-9


class Excused(NamedTuple):
    """Rules that a plugin breaks on purpose."""

    order: bool = False  # it goes by position, as round robin does
    unknown: bool = False  # it is about something else than load
    cost: bool = False


NOTHING: Final = Excused()


class Draws:
    """Random numbers, the same for every question; tells whether any were drawn."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(7)
        self.count = 0

    @overload
    def random(self) -> float: ...
    @overload
    def random(self, size: int) -> Floats: ...
    def random(self, size: int | None = None) -> float | Floats:
        self.count += 1
        return self._rng.random() if size is None else self._rng.random(size)


def check(
    make: Callable[[], Plugin],
    *,
    excused: Excused = NOTHING,
    case: MakeCase = random_case,
    rounds: int = 5,
    seed: int = 1,
) -> None:
    """AssertionError that lists every broken rule, with an example."""
    found = violations(make, excused=excused, case=case, rounds=rounds, seed=seed)
    if found:
        raise AssertionError("\n".join(f"{rule}: {text}" for rule, text in found.items()))


def violations(
    make: Callable[[], Plugin],
    *,
    excused: Excused = NOTHING,
    case: MakeCase = random_case,
    rounds: int = 5,
    seed: int = 1,
) -> dict[str, str]:
    """Rules that are broken, each with its first example. `make` makes a new plugin; `case` a
    random state of so many endpoints; every size of pool gets so many `rounds`.
    """
    found: dict[str, str] = {}
    rng = np.random.default_rng(seed)
    kept = make()
    for count in COUNTS * rounds:
        state = case(rng, count)
        for rule, text in _broken(kept, make, state, rng, excused):
            found.setdefault(rule, f"{text} ({count} endpoints)")
    if not excused.cost and "answers" not in found:
        for rule, text in _slow(make(), case, rng):
            found.setdefault(rule, text)
    return found


def _broken(
    kept: Plugin,
    make: Callable[[], Plugin],
    state: Case,
    rng: np.random.Generator,
    excused: Excused,
) -> Iterator[tuple[str, str]]:
    """Rule and example for everything that is wrong with one state."""
    draws = Draws()
    try:
        first = _asked(make(), state, draws)
        yield from _pure(kept, make, state, first)
        if not excused.order and not draws.count:
            yield from _orderless(make, state, first, rng)
        yield from _candidates_only(make, state, rng)
        if not excused.unknown:
            yield from _unknown_is_no_merit(make, state, rng)
        plugin = make()
        if isinstance(plugin, Picker):
            _choose(plugin, state, rng)
    except answers.BadAnswerError as problem:
        yield "answers", str(problem)
    except Exception as problem:  # noqa: BLE001 - whatever a plugin raises breaks the contract
        yield "answers", f"raised {type(problem).__name__}: {problem}"


def _asked(plugin: Plugin, state: Case, draws: Draws | None = None) -> Answers:
    """What it answers, by method. Everything it is given is read-only."""
    rng, count = draws or Draws(), len(state.endpoints)
    request, endpoints = read_only_request(state.request), read_only_endpoints(state.endpoints)
    found: Answers = {}
    if isinstance(plugin, Filter):
        found["keep"] = answers.bools(plugin.keep(request, endpoints), count)
    if isinstance(plugin, Scorer):
        found["score"] = answers.scores(plugin.score(request, endpoints), count)
    if isinstance(plugin, Cost):
        found["cost"] = answers.floats(plugin.cost(request, endpoints, 3, rng), count)
    return found


def _pure(
    kept: Plugin, make: Callable[[], Plugin], state: Case, first: Answers
) -> Iterator[tuple[str, str]]:
    again = make()
    for plugin, text in (
        (again, "another new plugin answers otherwise"),
        (again, "asked twice, it answers otherwise"),
        (kept, "asked about other states before, it answers otherwise"),
    ):
        if not _same(_asked(plugin, state), first):
            yield "pure", text


def _orderless(
    make: Callable[[], Plugin], state: Case, first: Answers, rng: np.random.Generator
) -> Iterator[tuple[str, str]]:
    order = rng.permutation(len(state.endpoints))
    moved = permuted(state, order)
    if not _same(_asked(make(), moved), {name: value[order] for name, value in first.items()}):
        yield "order", "endpoints in another order get other values"
    plugin = make()
    if isinstance(plugin, Learns):
        plugin.placed(state.request, state.endpoints, len(order) - 1)
        learned = _asked(plugin, state)
        if not _same(
            _asked(plugin, moved), {name: value[order] for name, value in learned.items()}
        ):
            yield "order", "what it has learned stays with the position, not with the address"


def _unknown_is_no_merit(
    make: Callable[[], Plugin], state: Case, rng: np.random.Generator
) -> Iterator[tuple[str, str]]:
    count = len(state.endpoints)
    row = int(rng.integers(0, count))
    for column, worst in WORST.items():
        reading = rng.random(count) * worst
        unknown = reading.copy()
        unknown[row] = np.nan
        known = _asked(make(), _with(state, column, reading))
        asked = _asked(make(), _with(state, column, unknown))
        for name, sign in (("score", -1.0), ("cost", 1.0)):
            if name not in asked:
                continue
            without, reads = float(asked[name][row]), float(known[name][row])
            if sign * (without - reads) < -_CLOSE:
                text = f"{without:.6g} without {column}, {reads:.6g} at {reading[row]:.3g}"
                yield "unknown", f"{name} is {text}"


def _candidates_only(
    make: Callable[[], Plugin], state: Case, rng: np.random.Generator
) -> Iterator[tuple[str, str]]:
    count = len(state.endpoints)
    candidates = rng.random(count) < 0.6
    candidates[int(rng.integers(0, count))] = True
    request = state.request._replace(candidates=candidates)
    before = _asked(make(), Case(request, state.endpoints))
    other = {name: getattr(state.endpoints, name).copy() for name in WORST}
    for column in other.values():
        column[~candidates] = rng.random(int((~candidates).sum()))
    load = state.endpoints.load.copy()
    load[:3, ~candidates] = rng.integers(0, 9, load[:3, ~candidates].shape)
    changed = replace(state.endpoints, load=load, **other)
    after = _asked(make(), Case(request, changed))
    if not _same(
        {name: value[candidates] for name, value in after.items()},
        {name: value[candidates] for name, value in before.items()},
    ):
        yield "candidates", "what is no candidate changes the values of those that are"


def _choose(plugin: Picker, state: Case, rng: np.random.Generator) -> None:
    """BadAnswerError when a choice is none."""
    endpoints = len(state.endpoints)
    costs = rng.integers(-3, 9, endpoints).astype(np.float64)
    costs.flags.writeable = False
    some: Bools = rng.random(endpoints) < 0.5
    for candidates in (None, some, np.zeros(endpoints, dtype=np.bool_)):
        for count in (1, 4):
            chosen = plugin.choose(costs, candidates, Draws(), count=count)
            answers.rows(chosen, candidates, endpoints=endpoints, count=count)


def _slow(plugin: Plugin, case: MakeCase, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    for count, budget_s in BUDGETS_S.items():
        for name, call in _calls(plugin, case(rng, count), rng.random(count)):
            took_s = _took_s(call)
            for _ in range(_TRIES):
                if took_s <= budget_s:
                    break
                took_s = min(took_s, _took_s(call))
            else:
                yield (
                    "cost",
                    (
                        f"{name} takes {took_s * 1e6:.0f} µs at {count:,} endpoints;"
                        f" at most {budget_s * 1e6:.0f} µs"
                    ),
                )


def _calls(
    plugin: Plugin, state: Case, costs: Floats
) -> Iterator[tuple[str, Callable[[], object]]]:
    if isinstance(plugin, Filter):
        yield "keep", partial(plugin.keep, *state)
    if isinstance(plugin, Scorer):
        yield "score", partial(plugin.score, *state)
    if isinstance(plugin, Cost):
        yield "cost", partial(plugin.cost, *state, 3, Draws())
    if isinstance(plugin, Picker):
        yield "choose", partial(plugin.choose, costs, None, Draws(), count=4)


def _took_s(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return time.perf_counter() - began_s


def _with(state: Case, column: str, values: Floats) -> Case:
    return Case(state.request, replace(state.endpoints, **{column: values}))  # type: ignore[arg-type]


def _same(some: Answers, others: Answers) -> bool:
    return all(np.allclose(some[name], others[name], rtol=_CLOSE, atol=_CLOSE) for name in others)
