"""Order and limits of what waits, against worked examples."""

from __future__ import annotations

import pytest

from inferway.picker.flowcontrol.band import FLOW_IDLE_S, FLOWS_MAX
from inferway.picker.flowcontrol.config import BandConfig, FlowConfig
from inferway.picker.flowcontrol.ordering import order_of
from inferway.picker.flowcontrol.queue import BAND_IDLE_S, FlowQueue
from inferway.picker.flowcontrol.waiting import ANYWHERE, FOR_EVER, Waiting


def waiting(
    what: str,
    *,
    priority: int = 0,
    flow: str = "",
    size_bytes: int = 1,
    tokens: float = 100.0,
    arrived_s: float = 0.0,
    expires_s: float = FOR_EVER,
    place: str = ANYWHERE,
    order: float | None = None,
) -> Waiting[str]:
    item = Waiting(
        what,
        priority=priority,
        flow=flow,
        size_bytes=size_bytes,
        tokens=tokens,
        arrived_s=arrived_s,
        expires_s=expires_s,
        order=arrived_s if order is None else order,
    )
    item.place = place
    return item


def queue_of(config: FlowConfig | None = None, *items: Waiting[str]) -> FlowQueue[str]:
    queue: FlowQueue[str] = FlowQueue(config or FlowConfig())
    for item in items:
        assert queue.enter(item, item.arrived_s) == []
    return queue


def drain(queue: FlowQueue[str], place: str = ANYWHERE) -> str:
    order = []
    while (item := queue.head(place, lambda _: True)) is not None:
        queue.served(item)
        queue.leave(item, 0.0)
        order.append(item.what)
    return "".join(order)


def with_band(**settings: object) -> FlowConfig:
    return FlowConfig(default_band=BandConfig.model_validate(settings))


def test_priorities_are_strict() -> None:
    queue = queue_of(None, *(waiting(f"{p};", priority=p) for p in (0, -10, 10, 5, -3, 10)))
    assert drain(queue) == "10;10;5;0;-3;-10;"
    assert len(queue) == 0
    assert queue.bytes == 0


def test_a_held_back_priority_is_passed_over() -> None:
    queue = queue_of(None, waiting("a", priority=0), waiting("b", priority=-1))
    head = queue.head(ANYWHERE, lambda priority: priority >= 0)
    assert head is not None
    queue.leave(head, 0.0)
    assert queue.head(ANYWHERE, lambda priority: priority >= 0) is None


@pytest.mark.parametrize(
    ("ordering", "expected"),
    [("fcfs", [3.0, 3.0, 3.0]), ("edf", [9.0, 4.0, 9.0]), ("slo-deadline", [3.25, 3.5, FOR_EVER])],
)
def test_orderings(ordering: str, expected: list[float]) -> None:
    found = [
        order_of(ordering, arrived_s=3.0, expires_s=expires_s, slo_ttft_ms=slo)  # type: ignore[arg-type]
        for expires_s, slo in [(9.0, 250), (4.0, 500), (9.0, 0)]
    ]
    assert found == expected


def test_equal_orders_go_by_arrival_and_then_by_entry() -> None:
    items = [
        waiting("c", arrived_s=2.0, order=FOR_EVER),
        waiting("a", arrived_s=1.0, order=FOR_EVER),
        waiting("b", arrived_s=1.0, order=FOR_EVER),
    ]
    assert drain(queue_of(with_band(fairness="global-strict"), *items)) == "abc"


def test_round_robin_takes_turns() -> None:
    names = "aaaabbc"
    items = [waiting(name, flow=name, arrived_s=float(i)) for i, name in enumerate(names)]
    assert drain(queue_of(with_band(fairness="round-robin"), *items)) == "abcabaa"


def test_global_strict_does_not_look_at_flows() -> None:
    names = "aaabab"
    items = [waiting(name, flow=name, arrived_s=float(i)) for i, name in enumerate(names)]
    assert drain(queue_of(with_band(fairness="global-strict"), *items)) == names


def test_virtual_counters_share_tokens() -> None:
    items = [waiting("a", flow="a", tokens=300.0, arrived_s=float(i)) for i in range(4)]
    items += [waiting("b", flow="b", tokens=100.0, arrived_s=float(i)) for i in range(8)]
    # a: 300; b: 100, 200, 300; a and b are even, and a's request is older.
    assert drain(queue_of(with_band(fairness="vtc"), *items)).startswith("abbb" + "abbb")


def test_a_flow_that_comes_back_is_lifted() -> None:
    queue = queue_of(None, *(waiting("a", flow="a", arrived_s=float(i)) for i in range(10)))
    for _ in range(6):
        item = queue.head(ANYWHERE, lambda _: True)
        assert item is not None
        queue.served(item)
        queue.leave(item, 6.0)
    for i in range(4):  # it saved nothing while it was away
        queue.enter(waiting("b", flow="b", arrived_s=7.0 + i), 7.0)
    assert drain(queue) == "abababab"


def test_what_a_request_really_took_is_put_right() -> None:
    queue = queue_of(None, *(waiting(n, flow=n, arrived_s=i) for i, n in enumerate("ab" * 3)))
    first = queue.head(ANYWHERE, lambda _: True)
    assert first is not None
    queue.served(first)
    queue.leave(first, 0.0)
    queue.corrected(0, "a", 250.0)  # a: 350 instead of 100
    assert drain(queue) == "bbbaa"


def test_each_place_has_its_own_next() -> None:
    queue = queue_of(
        None,
        waiting("a", place="x", arrived_s=1.0),
        waiting("b", place="y", arrived_s=0.0),
        waiting("c", arrived_s=2.0),
    )
    assert [queue.ahead_at(place, 0) for place in ("x", "y", "z", ANYWHERE)] == [2, 2, 1, 1]
    assert drain(queue, "z") == "c"
    assert drain(queue, "x") == "a"
    assert drain(queue) == ""
    assert len(queue) == 1


def test_who_waited_long_enough_takes_any_place() -> None:
    item = waiting("a", place="x")
    queue = queue_of(None, item)
    queue.bind(item, "y", loose_s=5.0)
    assert queue.next_s() == 5.0
    assert not queue.loosen(4.9)
    assert queue.head("x", lambda _: True) is None
    assert queue.loosen(5.0)
    assert queue.head("x", lambda _: True) is item
    assert queue.next_s() == FOR_EVER


def test_expiry() -> None:
    late, soon = waiting("late", expires_s=9.0), waiting("soon", expires_s=3.0)
    queue = queue_of(None, late, soon)
    assert queue.next_s() == 3.0
    assert queue.expired(2.9) == []
    assert queue.expired(3.0) == [soon]
    queue.leave(soon, 3.0)
    queue.expire_at(late, 4.0)
    assert queue.expired(3.9) == []
    assert queue.expired(100.0) == [late]
    queue.leave(late, 100.0)
    assert queue.next_s() == FOR_EVER
    assert not queue.leave(late, 100.0)


def test_a_time_that_was_set_twice_ends_once() -> None:
    item = waiting("a", expires_s=3.0)
    queue = queue_of(None, item)
    for expires_s in (5.0, 3.0, 3.0):
        queue.expire_at(item, expires_s)
    assert queue.expired(9.0) == [item]


@pytest.mark.parametrize("limit", [{"requests_max": 2}, {"bytes_max": 250}])
def test_a_band_that_is_full_takes_no_more(limit: dict[str, int]) -> None:
    queue = queue_of(with_band(**limit), *(waiting("a", size_bytes=100) for _ in range(2)))
    assert queue.enter(waiting("b", size_bytes=100), 0.0) is None
    assert queue.enter(waiting("c", size_bytes=100, priority=1), 0.0) == []
    assert (len(queue), queue.bytes) == (3, 300)


@pytest.mark.parametrize("limit", [{"requests_max": 3}, {"bytes_max": 350}])
def test_in_a_full_pool_the_newest_of_the_lowest_priority_gives_way(limit: dict[str, int]) -> None:
    items = [
        waiting("a", size_bytes=100, priority=-1),
        waiting("b", size_bytes=100, priority=-1),
        waiting("c", size_bytes=100),
    ]
    queue = queue_of(FlowConfig.model_validate(limit), *items)
    assert queue.enter(waiting("d", size_bytes=100, priority=-1), 0.0) is None
    assert queue.enter(waiting("e", size_bytes=100), 0.0) == [items[1]]
    assert queue.enter(waiting("f", size_bytes=100, priority=5), 0.0) == [items[0]]
    assert queue.enter(waiting("g", size_bytes=100), 0.0) is None
    assert drain(queue) == "fce"


def test_nobody_gives_way_when_that_would_not_do() -> None:
    small, large = waiting("a", size_bytes=10, priority=-1), waiting("b", size_bytes=300)
    queue = queue_of(FlowConfig(bytes_max=350), small, large)
    assert queue.enter(waiting("c", size_bytes=200, priority=0), 0.0) is None
    assert small.waits
    assert len(queue) == 2


def test_idle_bands_and_flows_are_forgotten() -> None:
    queue = queue_of(None, waiting("a", flow="a"), waiting("b", priority=3))
    drain(queue)
    band = queue.band(0)
    assert band is not None
    queue.collect(FLOW_IDLE_S)
    assert band.flows == 0
    assert [one.priority for one in queue.bands()] == [3, 0]
    queue.collect(BAND_IDLE_S)
    assert queue.bands() == []


def test_flows_beyond_the_limit_share_one() -> None:
    items = [waiting("a", flow=str(index)) for index in range(FLOWS_MAX + 10)]
    queue = queue_of(None, *items)
    band = queue.band(0)
    assert band is not None
    assert band.flows == FLOWS_MAX + 1
    assert len(drain(queue)) == FLOWS_MAX + 10


def test_what_waits_survives_other_settings() -> None:
    items = [waiting("a", flow="a", arrived_s=0.0), waiting("b", flow="b", arrived_s=1.0)]
    items += [waiting("c", flow="a", arrived_s=0.5, place="x"), waiting("d", priority=2)]
    queue = queue_of(None, *items)
    queue.reconfigure(with_band(fairness="round-robin", requests_max=1), 2.0)
    assert queue.enter(waiting("e"), 2.0) is None
    assert drain(queue, "x") == "dabc"
