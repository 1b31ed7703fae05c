"""Shares and scaled weights: exact sums, bounds in order, and monotone when weights are."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from inferway.envoy.sessions import scaled
from inferway.envoy.shares import shares
from inferway.routing.features import MILLION, Filters, Mirror
from inferway.routing.model import Target, TargetKind

weights = st.lists(st.integers(1, 1_000_000), min_size=1, max_size=6)
fractions = st.lists(st.integers(1, MILLION), max_size=3)


def mirrored(name: str, millionths: int) -> Mirror:
    return Mirror(TargetKind.POOL, name, millionths)


@given(st.lists(st.tuples(st.integers(1, 1000), fractions), min_size=1, max_size=5))
def test_every_target_and_mirror_gets_its_share(drawn: list[tuple[int, list[int]]]) -> None:
    targets = [
        Target(
            TargetKind.POOL,
            f"t{number}",
            weight,
            Filters(mirrors=tuple(mirrored(f"m{n}", one) for n, one in enumerate(copies))),
        )
        for number, (weight, copies) in enumerate(drawn)
    ]
    total = sum(weight for weight, _copies in drawn)
    found = shares(targets)
    bounds = [one.bound for one in found]
    assert bounds == sorted(bounds)
    assert bounds[-1] == MILLION
    served: Counter[str] = Counter()
    copied: Counter[tuple[str, str]] = Counter()
    for before, one in zip([0, *bounds], found, strict=False):
        served[one.target.name] += one.bound - before
        assert one.target.filters is not None
        for mirror in one.target.filters.mirrors:
            assert mirror.millionths == MILLION, "inside a part everything is mirrored"
            copied[one.target.name, mirror.name] += one.bound - before
    for number, (weight, copies) in enumerate(drawn):
        share = Fraction(weight, total) * MILLION
        assert abs(served[f"t{number}"] - share) <= 1
        for n, millionths in enumerate(copies):
            wanted = share * Fraction(millionths, MILLION)
            assert abs(copied[f"t{number}", f"m{n}"] - wanted) <= 1


@given(weights)
def test_scaled_weights_are_the_same_shares(drawn: list[int]) -> None:
    found = scaled(drawn)
    assert sum(found) == MILLION
    for weight, one in zip(drawn, found, strict=True):
        assert abs(one - Fraction(weight, sum(drawn)) * MILLION) <= 1


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, MILLION - 1))
def test_a_session_changes_sides_at_most_once(first: int, second: int, draw: int) -> None:
    """Weights of two backends that only move one way: whoever has moved does not move back."""
    low, high = sorted((first, second))
    if high == 0:
        return
    on_new = [draw >= scaled([100 - new, new])[0] for new in (low, high)]
    assert on_new != [True, False]
