"""Lists of addresses in every spelling, and what decisions make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway.picker.datalayer.readiness import Unready
from inferway.picker.scheduling.address_hints import AddressHints
from inferway.picker.scheduling.decide import Decision, NoEndpoint, PoolScheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.datalayer.state import DataLayer

ADDRESSES = ("10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.2:8000", "[2001:db8::1]:8000", "[::1]:9")


@pytest.mark.parametrize(
    ("hint", "rows"),
    [
        ("10.0.0.1", [0, 1]),
        ("10.0.0.1:8001", [1]),
        (" 10.0.0.2:8000 ,10.0.0.1:8000", [0, 2]),
        ("2001:db8::1", [3]),
        ("2001:0DB8:0:0::1", [3]),
        ("[2001:db8::1]", [3]),
        ("[2001:DB8:0::1]:8000", [3]),
        ("[2001:db8::1]:8001", []),
        ("::1,10.0.0.2", [2, 4]),
        ("10.0.0.9,nonsense,,[::1", []),
        ("", []),
    ],
)
def test_who_is_meant(hint: str, rows: list[int]) -> None:
    hints = AddressHints(ADDRESSES)
    assert hints.rows(hint).nonzero()[0].tolist() == rows
    assert hints.rows(hint) is hints.rows(hint)


def decided(made: PoolScheduler, pick: object) -> Decision | NoEndpoint:
    return made.decide(pick, filter_id=1, now_s=10.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["marginal-cost", "reference-default", "round-robin"])
def test_only_the_subset_without_the_excluded_is_chosen(
    scheduler: Callable[..., PoolScheduler], pick: Callable[..., object], policy: str
) -> None:
    made = scheduler(4, policy)
    for _ in range(8):
        asked = pick(subset="10.0.0.2,10.0.0.4:8000", exclude="10.0.0.4:8000")
        decision = decided(made, asked)
        assert isinstance(decision, Decision)
        assert decision.endpoints == "10.0.0.2:8000"
    for _ in range(8):
        decision = decided(made, pick(exclude="10.0.0.1:8000,10.0.0.3"))
        assert isinstance(decision, Decision)
        assert sorted(decision.endpoints.split(",")) == ["10.0.0.2:8000", "10.0.0.4:8000"]


@pytest.mark.parametrize("hint", ["", "10.0.0.9"])
def test_a_subset_that_names_nobody_is_refused(
    scheduler: Callable[..., PoolScheduler], pick: Callable[..., object], hint: str
) -> None:
    assert decided(scheduler(3), pick(subset=hint)) is NoEndpoint.FILTERED


def test_hints_are_among_the_reasons_and_do_not_stick(
    scheduler: Callable[..., PoolScheduler], pick: Callable[..., object], layer: DataLayer
) -> None:
    made = scheduler(3)
    layer.pools["ns/pool"].table.set_unready(0, Unready.CHECKS, True)
    hinted = made.weigh(pick(subset="10.0.0.2,10.0.0.3", exclude="10.0.0.3"), 10.0)  # type: ignore[arg-type]
    assert [(r.by, r.keep.tolist()) for r in hinted.removals[1:]] == [
        ("not in the subset", [False, True, True]),
        ("excluded", [True, True, False]),
    ]
    assert hinted.candidates is not None
    assert hinted.candidates.tolist() == [False, True, False]
    plain = made.weigh(pick(), 10.0)  # type: ignore[arg-type]
    assert plain.candidates is not None
    assert plain.candidates.tolist() == [False, True, True]
