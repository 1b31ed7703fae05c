"""Who may get requests, and who says no."""

from __future__ import annotations

import pytest

from inferway.picker.datalayer.readiness import Readiness, Unready

CHECKS, DRAINING, EJECTED = Unready.CHECKS, Unready.DRAINING, Unready.EJECTED


def readiness(count: int, *, ejected: int = 0, panic_ratio: float = 0.5) -> Readiness:
    made = Readiness(count, panic_ratio)
    for row in range(ejected):
        made.put(EJECTED, row, True)
    return made


def test_every_party_can_say_no_and_is_named() -> None:
    made = readiness(4)
    assert made.put(CHECKS, 0, True)
    assert made.put(DRAINING, 1, True)
    assert made.put(EJECTED, 2, True)
    assert made.put(CHECKS, 1, True)
    assert not made.put(CHECKS, 1, True), "nothing new"
    assert made.ready.tolist() == [False, False, False, True]
    assert [made.reason(row) for row in range(4)] == [CHECKS, CHECKS, EJECTED, None]
    assert [by for by, _ in made.removals()] == ["health checks fail", "draining", "ejected"]
    made.put(CHECKS, 1, False)
    assert made.reason(1) is DRAINING
    made.put(DRAINING, 1, False)
    assert made.ready.tolist() == [False, True, False, True]


def test_masks_that_were_handed_out_stay_as_they_are() -> None:
    made = readiness(2)
    before = made.ready
    made.put(EJECTED, 0, True)
    assert before.tolist() == [True, True]


@pytest.mark.parametrize(
    ("count", "ejected", "panic_ratio", "panic"),
    [
        (1, 1, 0.5, True),
        (1, 1, 0.99, True),
        (2, 1, 0.5, False),
        (2, 2, 0.5, True),
        (3, 1, 0.5, False),
        (3, 2, 0.5, True),
        (10, 5, 0.5, False),
        (10, 6, 0.5, True),
        (10, 1, 0.0, True),
        (10, 0, 0.0, False),
        (10, 10, 1.0, False),
    ],
)
def test_panic(count: int, ejected: int, panic_ratio: float, panic: bool) -> None:
    made = readiness(count, ejected=ejected, panic_ratio=panic_ratio)
    assert made.panic is panic
    assert int(made.ready.sum()) == (count if panic else count - ejected)
    assert ("ejected" in [by for by, _ in made.removals()]) is (ejected > 0 and not panic)


def test_panic_counts_only_those_that_could_serve() -> None:
    made = readiness(4, ejected=1)
    made.put_all({CHECKS: [False, False, False, True], DRAINING: [False, False, True, False]})
    assert made.ready.tolist() == [False, True, False, False], "one of two"
    made.put(DRAINING, 1, True)
    assert made.ready.tolist() == [True, False, False, False], "one of one: used all the same"
    assert made.panic


def test_an_empty_pool() -> None:
    made = readiness(0)
    assert (made.panic, made.ready.tolist(), made.removals()) == (False, [], [])
