"""What is remembered, for how long, and what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway.picker.config import ExplainConfig, PickerConfig, PoolExplainConfig
from inferway.picker.datalayer.readiness import Unready
from inferway.picker.outcome import Outcome
from inferway.picker.protocol import filter_side

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Recording

    Make = Callable[..., Recording]


def ids(made: Recording) -> list[str]:
    return [record.pick.request_id for record in made.ring.newest_first()]  # type: ignore[attr-defined]


def test_the_newest_are_kept(recording: Make) -> None:
    made = recording(limits=ExplainConfig(decisions_max=3))
    for stream in range(1, 6):
        made.say(filter_side.pick(stream))
    assert ids(made) == ["request-5", "request-4", "request-3"]
    assert made.ring.forgotten == 2


def test_of_a_flood_some_are_kept(recording: Make) -> None:
    """20 in a second are 2 in each tenth of it; refusals count like choices."""
    made = recording(limits=ExplainConfig(per_second_max=20))
    for stream in range(1, 5):
        made.say(filter_side.pick(stream))
    made.say(filter_side.pick(5, pool="default/nowhere"))
    assert ids(made) == ["request-2", "request-1"]
    assert (made.ring.passed_over, made.ring.forgotten) == (3, 0)
    made.now_s += 0.11
    for stream in range(6, 9):
        made.say(filter_side.pick(stream))
    assert ids(made)[:2] == ["request-7", "request-6"]
    made.say(filter_side.done(3), filter_side.done(6))
    assert [one.done is not None for one in made.ring.newest_first()] == [False, True, False, False]


def test_bytes_are_bounded_and_counted_back(recording: Make) -> None:
    made = recording(200, limits=ExplainConfig(bytes_max=100_000))
    sizes = set()
    for stream in range(1, 60):
        made.say(filter_side.pick(stream))
        assert made.ring.bytes_used <= 100_000
        assert made.ring.bytes_used == sum(one.size_bytes for one in made.ring.newest_first())
        sizes.add(len(made.ring))
    assert max(sizes) < 20, "200 endpoints are more than 5 kB"
    made.ring.configure(ExplainConfig(bytes_max=0))
    assert (len(made.ring), made.ring.bytes_used) == (0, 0)


def test_the_estimate_is_no_less_than_the_columns_take(recording: Make) -> None:
    made = recording(100)
    made.say(filter_side.pick(1), filter_side.pick(2))
    record = made.ring.newest_first()[0]
    choice = record.choice
    assert choice is not None
    matched = choice.weighed.request.matched_tokens
    columns = (len(choice.load), len(choice.ages_s), choice.weighed.costs.nbytes, matched.nbytes)
    assert record.size_bytes >= sum(columns) + 1_000


def test_an_end_finds_its_decision(recording: Make) -> None:
    made = recording()
    made.say(filter_side.pick(1), filter_side.pick(2))
    made.say(filter_side.done(1, status=200, endpoint="10.0.0.1:8000"))
    second, first = made.ring.newest_first()
    assert first.done is not None
    assert first.done.endpoint == "10.0.0.1:8000"
    assert second.done is None
    made.say(filter_side.done(2, status=503))
    assert second.done is not None


def test_ends_of_what_is_forgotten_change_nothing(recording: Make) -> None:
    made = recording(limits=ExplainConfig(decisions_max=1))
    made.say(filter_side.pick(1), filter_side.pick(2))
    made.say(filter_side.done(1), filter_side.done(2))
    (left,) = made.ring.newest_first()
    assert left.done is not None
    assert made.ring._running == {}


def test_a_lost_filter_leaves_its_decisions_without_an_end(recording: Make) -> None:
    made = recording()
    made.say(filter_side.pick(1), filter_side.pick(2), filter_side.done(1))
    made.desk.drop(1)
    second, first = made.ring.newest_first()
    assert (first.done is not None, second.done) == (True, None)
    assert made.ring._running == {}


@pytest.mark.parametrize(("every", "kept"), [(1, [1, 2, 3, 4, 5]), (2, [1, 3, 5]), (4, [1, 5])])
def test_one_of_so_many_is_recorded(recording: Make, every: int, kept: list[int]) -> None:
    made = recording(pool=PoolExplainConfig(record_every=every))
    for stream in range(1, 6):
        made.say(filter_side.pick(stream))
    assert ids(made)[::-1] == [f"request-{stream}" for stream in kept]


@pytest.mark.parametrize(
    "options",
    [{"pool": PoolExplainConfig(record_every=0)}, {"limits": ExplainConfig(decisions_max=0)}],
)
def test_nothing_is_recorded_where_it_is_off(recording: Make, options: dict[str, object]) -> None:
    made = recording(**options)
    made.say(filter_side.pick(1), filter_side.done(1))
    assert ids(made) == []


def test_limits_of_a_new_configuration_hold(recording: Make) -> None:
    made = recording()
    for stream in range(1, 6):
        made.say(filter_side.pick(stream))
    pools = made.desk.runtime.config.pools
    for decisions_max, left in ((2, 2), (0, 0), (10, 1)):
        limits = ExplainConfig(decisions_max=decisions_max)
        made.desk.configure(PickerConfig(version=2, pools=pools, explain=limits))
        if decisions_max == 10:
            made.say(filter_side.pick(9))
        assert len(made.ring) == left


def test_refusals_are_recorded(recording: Make) -> None:
    made = recording(2)
    made.say(filter_side.pick(1, pool="default/nobody"))
    table = made.layer.pools["default/pool"].table
    for row in (0, 1):
        table.set_unready(row, Unready.CHECKS, True)
    made.say(filter_side.pick(2))
    without, unknown = made.ring.newest_first()
    assert (unknown.outcome, unknown.choice) == (Outcome.POOL_NOT_FOUND, None)
    assert without.outcome is Outcome.NO_ENDPOINT
    assert without.choice is not None
    assert [by for by, _ in without.choice.weighed.removals] == [Unready.CHECKS]
