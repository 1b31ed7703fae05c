"""The endpoint table: charges, scraped columns, rebuilding."""

from __future__ import annotations

from math import inf, isnan

import numpy as np

from inferway.picker.datalayer.readiness import Unready
from inferway.picker.datalayer.table import EndpointTable


def record(table: EndpointTable, row: int, now_s: float = 1.0, **values: float | None) -> None:
    known = {"waiting": 1.0, "running": 2.0, "kv_usage_ratio": 0.5, "own_requests": 0.0}
    table.record(row, **{**known, **values}, now_s=now_s)  # type: ignore[arg-type]


def test_a_new_endpoint_is_ready_idle_and_unknown() -> None:
    table = EndpointTable("ns/pool", ["a:1", "b:1"])
    view = table.view()
    assert len(view) == len(table) == 2
    assert view.ready.all()
    for column in (view.in_flight, view.pending_tokens, view.context_tokens):
        assert column.tolist() == [0.0, 0.0]
    for column in (view.waiting, view.running, view.kv_usage_ratio, view.foreign_requests):
        assert np.isnan(column).all()
    table.refresh_ages(100.0)
    assert view.metrics_age_s.tolist() == [inf, inf]


def test_further_values_are_unknown_until_a_page_says_them_and_again_when_it_does_not() -> None:
    table = EndpointTable("p", ["a:1", "b:1"], attributes=["heat"])
    before = table.view()
    assert np.isnan(before.attributes["heat"]).all()
    record(table, 1, attributes={"heat": -3.0, "other": 1.0})  # type: ignore[arg-type]
    assert np.isnan(before.attributes["heat"]).all(), "a view keeps what it promised"
    assert table.view().attributes.keys() == {"heat"}
    assert np.array_equal(table.view().attributes["heat"], [np.nan, -3.0], equal_nan=True)
    record(table, 1)
    assert np.isnan(table.view().attributes["heat"]).all()


def test_further_values_are_kept_over_a_rebuild_by_address_and_key() -> None:
    table = EndpointTable("p", ["a:1", "b:1"], attributes=["heat", "gone"])
    record(table, 1, attributes={"heat": 7.0, "gone": 1.0})  # type: ignore[arg-type]
    rebuilt = table.rebuilt(["c:1", "b:1"], attributes=["new", "heat"])
    found = rebuilt.view().attributes
    assert found.keys() == {"new", "heat"}
    assert np.isnan(found["new"]).all()
    assert np.array_equal(found["heat"], [np.nan, 7.0], equal_nan=True)


def test_charges_show_in_a_view_that_was_taken_before() -> None:
    table = EndpointTable("p", ["a:1", "b:1"])
    view = table.view()
    table.charge(1, 100, 300)
    table.charge(1, 50, 60)
    assert view.in_flight.tolist() == [0.0, 2.0]
    assert view.pending_tokens.tolist() == [0.0, 150.0]
    assert view.context_tokens.tolist() == [0.0, 360.0]
    table.first_token(1, 100)
    assert view.pending_tokens.tolist() == [0.0, 50.0]
    table.release(1, 0, 300)
    table.release(1, 50, 60)
    assert table.accounting(1) == (0.0, 0.0, 0.0)


def test_a_repeated_address_is_one_row() -> None:
    assert EndpointTable("p", ["a:1", "b:1", "a:1"]).rows == {"a:1": 0, "b:1": 1}


def test_a_scrape_makes_a_new_view_and_leaves_the_old_one_alone() -> None:
    table = EndpointTable("p", ["a:1"])
    before = table.view()
    assert table.view() is before
    record(table, 0, waiting=3.0, running=4.0, kv_usage_ratio=0.25)
    after = table.view()
    assert after is not before
    assert isnan(before.waiting[0])
    assert (after.waiting[0], after.running[0], after.kv_usage_ratio[0]) == (3.0, 4.0, 0.25)
    table.charge(0, 1, 1)
    assert before.in_flight[0] == after.in_flight[0] == 1.0


def test_foreign_requests_are_what_our_own_do_not_explain() -> None:
    table = EndpointTable("p", ["a:1"])
    record(table, 0, waiting=3.0, running=4.0, own_requests=5.0)
    assert table.view().foreign_requests[0] == 2.0
    record(table, 0, waiting=3.0, running=4.0, own_requests=9.0)
    assert table.view().foreign_requests[0] == 0.0
    record(table, 0, waiting=3.0, running=None)
    assert isnan(table.view().foreign_requests[0])
    assert isnan(table.view().running[0])


def test_ages_grow_until_the_next_good_scrape() -> None:
    table = EndpointTable("p", ["a:1", "b:1"])
    record(table, 0, now_s=10.0)
    table.refresh_ages(12.5)
    assert table.view().metrics_age_s.tolist() == [2.5, inf]
    record(table, 0, now_s=13.0)
    table.refresh_ages(13.0)
    assert table.view().metrics_age_s[0] == 0.0


def test_rebuilding_keeps_what_is_known_of_addresses_that_stay() -> None:
    table = EndpointTable("p", ["a:1", "b:1", "c:1"])
    table.charge(2, 10, 20)
    table.charge(0, 7, 7)
    table.count_pick(2)
    record(table, 2, waiting=9.0, now_s=5.0)
    table.set_unready(2, Unready.CHECKS, True)
    rebuilt = table.rebuilt(["d:1", "c:1"])
    assert rebuilt.addresses == ("d:1", "c:1")
    assert rebuilt.accounting(1) == (1.0, 10.0, 20.0)
    assert rebuilt.accounting(0) == (0.0, 0.0, 0.0)
    assert rebuilt.picks(1) == 1
    view = rebuilt.view()
    assert view.waiting[1] == 9.0
    assert isnan(view.waiting[0])
    assert view.ready.all(), "whoever rebuilds it says who is not ready"
    rebuilt.refresh_ages(6.0)
    assert view.metrics_age_s.tolist() == [inf, 1.0]
    rebuilt.charge(1, 1, 1)
    assert table.accounting(2) == (1.0, 10.0, 20.0)


def test_rebuilding_to_and_from_nothing() -> None:
    assert len(EndpointTable("p", ["a:1"]).rebuilt([])) == 0
    assert EndpointTable("p", []).rebuilt(["a:1"]).addresses == ("a:1",)
