"""Weighted choices between models: shares are right, whoever is kept stays, and a change of weights
moves no more than it must.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway._native import hash_seed
from inferway.picker.config import RewriteConfig
from inferway.picker.rewriting import Rewriter

USERS = 4_000


@dataclass(frozen=True)
class Asked:
    model: str = "llm"
    session: str = ""
    fairness: str = ""


def rewriter(
    *weights: int, sticky: Literal["none", "session", "user"] = "none", seed: int = 7
) -> Rewriter:
    targets = tuple((f"v{number}", weight) for number, weight in enumerate(weights))
    rewrite = RewriteConfig(model="llm", targets=targets, sticky=sticky)
    return Rewriter([rewrite], np.random.default_rng(seed), hash_seed)


def choices(one: Rewriter, key: Literal["session", "fairness"]) -> list[str]:
    return [
        one.target(Asked(**{key: f"user-{number}"}))  # type: ignore[arg-type]
        for number in range(USERS)
    ]


def off_by(count: int, share: float, of: int = USERS) -> float:
    """In standard deviations."""
    return abs(count - of * share) / max(1.0, (of * share * (1 - share)) ** 0.5)


weights = st.lists(st.integers(1, 100), min_size=2, max_size=5)


@settings(max_examples=20, deadline=None)
@given(weights, st.sampled_from(["none", "session", "user"]))
def test_shares_are_the_weights(
    given_weights: list[int], sticky: Literal["none", "session", "user"]
) -> None:
    one = rewriter(*given_weights, sticky=sticky)
    chosen = choices(one, "session" if sticky == "session" else "fairness")
    for number, weight in enumerate(given_weights):
        assert off_by(chosen.count(f"v{number}"), weight / sum(given_weights)) < 5


@settings(max_examples=20, deadline=None)
@given(weights)
def test_who_is_kept_stays_whatever_the_generator_does(given_weights: list[int]) -> None:
    first = rewriter(*given_weights, sticky="session", seed=1)
    second = rewriter(*given_weights, sticky="session", seed=2)
    assert choices(first, "session") == choices(second, "session")


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 99), st.integers(1, 99))
def test_a_change_between_two_moves_exactly_the_difference_and_one_way(
    before: int, after: int
) -> None:
    old = choices(rewriter(100 - before, before, sticky="user"), "fairness")
    new = choices(rewriter(100 - after, after, sticky="user"), "fairness")
    moves = {(a, b) for a, b in zip(old, new, strict=True) if a != b}
    assert moves <= ({("v0", "v1")} if after > before else {("v1", "v0")})
    moved = sum(a != b for a, b in zip(old, new, strict=True))
    assert off_by(moved, abs(after - before) / 100) < 5


@settings(max_examples=20, deadline=None)
@given(weights, st.data())
def test_a_change_between_many_moves_what_changes_hands(
    old: list[int], data: st.DataObject
) -> None:
    size = len(old)
    new = data.draw(st.lists(st.integers(1, 100), min_size=size, max_size=size))
    bounds = [[end / sum(one) for end in accumulate(one)] for one in (old, new)]
    changing = sum(abs(a - b) for a, b in zip(*bounds, strict=True))
    pairs = zip(
        choices(rewriter(*old, sticky="user"), "fairness"),
        choices(rewriter(*new, sticky="user"), "fairness"),
        strict=True,
    )
    moved = sum(a != b for a, b in pairs)
    assert moved <= USERS * min(changing, 1) + 5 * USERS**0.5


def test_names_are_independent_of_each_other() -> None:
    """Those who get the new version of one model are not those who get the new one of another."""
    both = [
        RewriteConfig(model=name, targets=(("old", 1), ("new", 1)), sticky="session")
        for name in ("a", "b")
    ]
    one = Rewriter(both, np.random.default_rng(1), hash_seed)
    same = sum(
        one.target(Asked("a", f"s{number}")) == one.target(Asked("b", f"s{number}"))
        for number in range(USERS)
    )
    assert off_by(same, 0.5) < 5


def test_exact_before_generic_and_nothing_without_a_model() -> None:
    rewrites = [
        RewriteConfig(model="", targets=(("any", 1),)),
        RewriteConfig(model="llm", targets=(("llm-v1", 1),)),
    ]
    one = Rewriter(rewrites, np.random.default_rng(1), hash_seed)
    assert one.target(Asked("llm")) == "llm-v1"
    assert one.target(Asked("llm-v1")) == "any"
    assert one.target(Asked("")) == ""
    assert Rewriter(rewrites[1:], np.random.default_rng(1), hash_seed).target(Asked("x")) == "x"


def test_nobody_to_keep_is_drawn() -> None:
    one = rewriter(1, 1, sticky="session")
    assert len({one.target(Asked(fairness="me")) for _ in range(100)}) == 2
