"""Profiles: what their parts do together, and how they are made from a configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway.picker.config import PluginConfig, PoolConfig, ProfileConfig
from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.profile import Profile, Removal, Term, TermDroppedError
from inferway.picker.scheduling.profiles import Profiles
from inferway.picker.scheduling.registry import profile_of
from inferway.picker.scheduling.sources import NoPlugins
from inferway.testing import endpoints, request

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Random, Request

RNG = np.random.default_rng(1)


@dataclass
class Keep:
    rows: set[int]
    required: bool = False
    seen: list[object] = field(default_factory=list)

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        self.seen.append(request.candidates)
        return np.array([row in self.rows for row in range(len(endpoints))])


@dataclass
class Score:
    values: list[float]

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return np.array(self.values)


@dataclass
class Price:
    values: list[float]

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        return np.array(self.values)


class Broken:
    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        raise TermDroppedError

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        raise TermDroppedError

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        raise TermDroppedError


def filtered(profile: Profile, count: int = 4, candidates: list[bool] | None = None) -> object:
    found, removals = profile.filter(
        request(count, candidates=candidates), endpoints(count), (Removal("before", np.ones(1)),)
    )
    left = None if found.candidates is None else found.candidates.tolist()
    return left, [removal.by for removal in removals]


def test_costs_add_up_and_scores_lower_them() -> None:
    profile = Profile(
        "p",
        [
            Term("s", Score([1.0, 0.5, 0.0]), 4.0),
            Term("c", Price([1.0, 2.0, 3.0])),
            Term("d", Price([0.0, 0.0, 10.0]), 0.5),
        ],
    )
    total, values = profile.rate(request(3), endpoints(3), 0, RNG)
    assert total.tolist() == [1.0 - 4.0, 2.0 - 2.0, 3.0 + 5.0]
    assert [term.name for term in profile.terms] == ["c", "d", "s"]
    assert [v.tolist() for v in values if v is not None] == [[1, 2, 3], [0, 0, 10], [1, 0.5, 0]]
    assert profile.single is None


def test_a_term_that_drops_out_leaves_the_others() -> None:
    profile = Profile("p", [Term("b", Broken()), Term("c", Price([1.0, 2.0]), 2.0)])
    total, values = profile.rate(request(2), endpoints(2), 0, RNG)
    assert total.tolist() == [2.0, 4.0]
    assert [value is None for value in values] == [True, False, True]
    assert filtered(profile) == (None, ["before"])


def test_what_a_part_answers_is_not_changed() -> None:
    answer = np.array([1.0, 2.0])

    class Kept:
        def cost(
            self, request: Request, endpoints: Endpoints, sequence: int, rng: Random
        ) -> Floats:
            return answer

    profile = Profile("p", [Term("c", Kept()), Term("s", Score([1.0, 0.0]))])
    total, values = profile.rate(request(2), endpoints(2), 0, RNG)
    assert total.tolist() == [0.0, 2.0]
    assert values[0] is answer
    assert answer.tolist() == [1.0, 2.0]


def test_only_a_single_unweighted_cost_takes_the_short_way() -> None:
    assert Profile("p", [Term("c", Price([1.0]))]).single is not None
    assert Profile("p", [Term("c", Price([1.0]), 2.0)]).single is None
    assert Profile("p", [Term("c", Price([1.0])), Term("d", Price([1.0]))]).single is None


def test_filters_see_what_those_before_them_left() -> None:
    first, second = Keep({0, 1, 2}), Keep({1, 2, 3})
    profile = Profile("p", [Term("f", first), Term("g", second)])
    assert filtered(profile) == ([False, True, True, False], ["before", "f", "g"])
    assert first.seen == [None]
    assert [np.asarray(seen).tolist() for seen in second.seen] == [[True, True, True, False]]


def test_a_filter_that_keeps_everyone_leaves_no_trace() -> None:
    assert filtered(Profile("p", [Term("f", Keep({0, 1, 2, 3}))])) == (None, ["before"])


def test_a_filter_that_would_drop_everyone_left_is_passed_over() -> None:
    profile = Profile("p", [Term("f", Keep({0})), Term("g", Keep({1, 2}))])
    assert filtered(profile) == ([True, False, False, False], ["before", "f"])
    before = [False, True, True, False]
    assert filtered(profile, candidates=before) == ([False, True, True, False], ["before", "g"])


def test_a_required_filter_may_leave_nobody_and_then_nothing_is_rated() -> None:
    last = Keep({1})
    profile = Profile(
        "p",
        [
            Term("f", Keep({0})),
            Term("g", Keep({1}, required=True)),
            Term("h", last),
            Term("c", Price([1.0])),
        ],
    )
    assert filtered(profile) == ([False] * 4, ["before", "f", "g"])
    assert last.seen == []
    total, values = profile.rate(request(2, candidates=[False] * 2), endpoints(2), 0, RNG)
    assert (total.tolist(), values) == ([0.0, 0.0], ())


def test_names_are_unique_and_there_is_one_picker() -> None:
    class First:
        def choose(
            self, costs: Floats, candidates: Bools | None, rng: Random, *, count: int
        ) -> list[int]:
            return [0][:count]

    with pytest.raises(ValueError, match="profile p: plugin named twice: c"):
        Profile("p", [Term("c", Price([])), Term("c", Price([]))])
    with pytest.raises(ValueError, match="profile p: more than one picker: a, b"):
        Profile("p", [Term("a", First()), Term("b", First())])
    assert Profile("p", [Term("a", First())]).picker.choose(np.ones(3), None, RNG, count=2) == [0]


class Tuned:
    def __init__(self, half_life_s: float = 2.0, *, rows_max: int = 3) -> None:
        self.values = (half_life_s, rows_max)

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return np.zeros(len(endpoints))


def test_parameters_are_the_arguments_of_the_constructor() -> None:
    assert made(Tuned, {}, name="plugin t").values == (2.0, 3)  # type: ignore[union-attr]
    tuned = made(Tuned, {"halfLifeS": 5, "rowsMax": 1}, name="plugin t")
    assert tuned.values == (5.0, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"halfLife": 1.0}, r"plugin t: parameters.halfLife: Extra inputs are not permitted"),
        ({"half_life_s": 1.0}, r"parameters.half_life_s: Extra inputs"),
        ({"halfLifeS": "2"}, r"parameters.halfLifeS: Input should be a valid number"),
        (
            {"rowsMax": 1.5, "x": 0},
            r"rowsMax: Input should be a valid integer; parameters.x: Extra",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_named(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(Tuned, parameters, name="plugin t")  # type: ignore[arg-type]


class Nothing:
    pass


def test_what_is_no_plugin_is_refused() -> None:
    with pytest.raises(ValueError, match="plugin d: has none of the methods keep, score"):
        made(Nothing, {}, name="plugin d")  # type: ignore[arg-type]

    def untyped(limit=3) -> Tuned:  # type: ignore[no-untyped-def]
        return Tuned(rows_max=limit)

    with pytest.raises(ValueError, match="plugin u: parameter limit needs a type"):
        made(untyped, {}, name="plugin u")


def config(*types: str) -> ProfileConfig:
    return ProfileConfig(plugins=tuple(PluginConfig(type=one, weight=2.0) for one in types))


def test_a_profile_is_made_from_its_configuration() -> None:
    profile = profile_of("mine", config("least-request", "round-robin"))
    assert profile.name == "mine"
    assert [(term.name, term.weight) for term in profile.terms] == [
        ("least-request", 2.0),
        ("round-robin", 2.0),
    ]
    with pytest.raises(ValueError, match="plugin nobody: type 'nobody'; known: marginal-cost"):
        profile_of("mine", config("nobody"))


def test_a_pool_keeps_its_profile_for_as_long_as_nothing_changes() -> None:
    profiles = Profiles(NoPlugins(), lambda: 0.0, lambda *told: None)
    pool = PoolConfig(name="a", profile=config("least-request"))
    profiles.keep(profiles.build([pool]))
    before = profiles["a"]
    profiles.keep(profiles.build([pool.model_copy(update={"objectives": {"x": 1}})]))
    assert profiles["a"] is before
    changed = pool.model_copy(update={"profile": config("random")})
    built = profiles.build([changed])
    assert profiles["a"] is before
    profiles.keep(built)
    assert profiles["a"] is not before
    with pytest.raises(ValueError, match="pool a: plugin nobody: type"):
        profiles.build([PoolConfig(name="a", profile=config("nobody"))])
