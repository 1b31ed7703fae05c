"""Drain rates, and the tickets that are computed from them."""

from __future__ import annotations

import pytest

from inferway.picker.flowcontrol import tickets as module
from inferway.picker.flowcontrol.rates import Rates
from inferway.picker.flowcontrol.tickets import Tickets


def test_a_priority_counts_on_what_it_and_those_below_got() -> None:
    rates = Rates()
    for second in range(60):
        rates.sample({10: 5 * second, 0: 3 * second, -10: 2 * second}, float(second))
    assert rates.whole == pytest.approx(10.0, rel=0.01)
    found = [rates.of(priority) for priority in (10, 5, 0, -10, -20)]
    assert found == pytest.approx([10.0, 5.0, 5.0, 2.0, 0.2], rel=0.01)


def test_a_rate_follows_within_seconds_and_is_never_zero() -> None:
    rates = Rates()
    assert rates.of(0) > 0.0
    count = 0
    for tick in range(600):
        count += 1 if tick < 300 else 4
        rates.sample({0: count}, tick * 0.1)
        rates.sample({0: count}, tick * 0.1 + 0.01)
        if tick == 299:
            assert rates.of(0) == pytest.approx(10.0, rel=0.01)
        if tick == 400:
            assert rates.of(0) == pytest.approx(40.0, rel=0.1)


def give(tickets: Tickets, request: int, now_s: float = 0.0, *, rate: float = 2.0) -> float | None:
    return tickets.give(request, priority=-1, arrived_s=now_s, wait_s=1.5, rate=rate, now_s=now_s)


def test_turns_follow_each_other_at_the_rate() -> None:
    tickets = Tickets(60.0)
    # due at 1.5, 2.0, 2.5, 3.0, 3.5: told in whole seconds, never too early
    assert [give(tickets, request) for request in range(5)] == [2.0, 2.0, 3.0, 3.0, 4.0]
    assert tickets.outstanding(-1) == 5
    assert tickets.outstanding(0) == 0


def test_a_turn_is_used_once() -> None:
    tickets = Tickets(60.0)
    give(tickets, 7)
    ticket = tickets.find(7, 1.0)
    assert ticket is not None
    assert (ticket.due_s, ticket.arrived_s) == (1.5, 0.0)
    tickets.redeem(7)
    tickets.redeem(7)
    assert tickets.find(7, 2.0) is None
    assert tickets.outstanding(-1) == 0
    assert give(tickets, 8, 2.0) == 2.0  # nobody is ahead any longer


def test_a_turn_ends_a_while_after_its_time() -> None:
    tickets = Tickets(60.0)
    give(tickets, 7)  # told 2 s: until 2 + 5 + 1
    assert tickets.find(7, 8.0) is not None
    assert tickets.find(7, 8.01) is None
    assert len(tickets) == 0


def test_turns_too_far_away_are_not_given() -> None:
    tickets = Tickets(10.0)
    told = [give(tickets, request, rate=1.0) for request in range(20)]
    assert told[:10] == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, None]
    assert set(told[9:]) == {None}
    assert tickets.outstanding(-1) == 9
    assert give(tickets, 99, 5.0, rate=1.0) == 6.0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICKETS_MAX", 3)
    tickets = Tickets(60.0)
    for request in range(5):
        give(tickets, request)
    assert len(tickets) == tickets.outstanding(-1) == 3
    assert tickets.find(1, 0.0) is None
    give(tickets, 9, 50.0)  # the others' time is over
    assert len(tickets) == 1
