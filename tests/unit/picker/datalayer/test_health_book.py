"""Reports reach the health of the right address, and pools hear what follows."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from inferway.picker.config import EndpointConfig, PoolConfig
from inferway.picker.datalayer.faults import Cause, FaultClass
from inferway.picker.datalayer.health import HealthState
from inferway.picker.datalayer.health_book import WELL, HealthBook
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.health_config import HealthConfig

if TYPE_CHECKING:
    from inferway.picker.datalayer.prefix import BlockIndex

A, B = "10.0.0.1:8000", "10.0.0.2:8000"
CONFIG = HealthConfig(consecutive_faults=2, ejection_s=5.0)
RESET, STATUS = 2, 4


class Book(HealthBook):
    def __init__(self) -> None:
        self.told: list[str] = []
        self.now_s = 10.0
        self.streams = count(1)
        super().__init__(self.told.append)
        self.configure({A: CONFIG, B: CONFIG})

    def fail(self, address: str = A, cause: int = RESET, status: int = 0, after: float = 0) -> None:
        self.attempt_failed(
            address, cause=cause, status=status, retry_after_s=after, now_s=self.now_s
        )

    def end(self, placed: str = A, served: str = A, **done: int) -> None:
        stream = (1, next(self.streams))
        told = {"end": 0, "status": 200, "fault": 0, **done}
        self.ended(placed, served, stream, now_s=self.now_s, **told)

    def ejected(self) -> Book:
        self.fail()
        self.fail()
        return self


def test_a_healthy_system_remembers_nothing() -> None:
    book = Book()
    book.end()
    book.end(status=404)
    book.end(end=2, status=0)
    assert (book.watched, book.told, book.due_s) == ({}, [], float("inf"))
    assert book.standing(A) is WELL


def test_faults_eject_their_own_address_only() -> None:
    book = Book().ejected()
    assert book.standing(A)[:4] == (False, 1.0, HealthState.EJECTED, Cause.RESET)
    assert book.standing(A).until_s == 15.0
    assert book.standing(B) is WELL
    assert set(book.told) == {A}
    assert book.counters[A].faults == {FaultClass.TRANSPORT_FAULT: 2}
    assert book.counters[A].ejections == {Cause.RESET: 1}


def test_a_truncated_stream_counts_against_who_served_it() -> None:
    book = Book()
    for _ in range(2):
        book.end(placed=A, served=B, fault=1)
    assert book.standing(A) is WELL
    assert book.standing(B).cause is Cause.TRUNCATED


def test_a_success_elsewhere_is_no_success_here() -> None:
    book = Book()
    book.fail()
    book.end(placed=A, served=B)  # B made good what A failed
    book.fail()
    assert book.standing(A).state is HealthState.EJECTED
    book = Book()
    book.fail()
    book.end()
    book.fail()
    assert book.standing(A).state is HealthState.ACTIVE


def test_time_moves_it_on_when_due() -> None:
    book = Book().ejected()
    book.told.clear()
    book.advance(14.9)
    assert book.told == []
    book.advance(book.due_s)
    assert (book.told, book.standing(A).usable) == ([A], True)
    book.placed(A, (1, 99), 15.0)
    assert not book.standing(A).usable
    book.began(A, (1, 99), status=500, now_s=15.5)
    assert book.standing(A).state is HealthState.PROBING, "an error's first byte is no success"
    book.began(A, (1, 99), status=200, now_s=15.5)
    assert book.standing(A).state is HealthState.ACTIVE


def test_a_probe_that_another_endpoint_made_good_is_no_success() -> None:
    book = Book().ejected()
    book.advance(15.0)
    book.placed(A, (1, 1), 15.0)
    book.end(placed=A, served=B)
    assert book.standing(A).state is HealthState.PROBING
    assert book.standing(A).usable, "the next probe may go"


def test_what_is_well_again_is_forgotten() -> None:
    book = Book()
    book.fail()
    book.fail(cause=STATUS, status=503, after=3)
    book.end()
    while book.due_s < float("inf"):
        book.advance(book.due_s)
    assert book.watched == {}
    book.fail()
    book.advance(1_000.0)
    assert book.watched, "a fault in a row is remembered"
    book.now_s = 1_000.0
    book.end()
    assert book.watched == {}


def test_back_pressure_and_unknown_addresses() -> None:
    book = Book()
    book.fail(cause=STATUS, status=429)
    assert book.standing(A)[:2] == (True, 0.5)
    book.fail("10.9.9.9:1")
    book.fail("")
    book.end(placed="", served="", fault=2)
    assert list(book.watched) == [A]
    book.configure({B: CONFIG})
    assert (book.watched, book.counters) == ({}, {})


@pytest.fixture
def layer() -> DataLayer:
    class NoIndex:
        def set_capacity(self, endpoint: int, bytes_max: int) -> None: ...
        def clear(self, endpoint: int) -> None: ...

    index: BlockIndex = NoIndex()  # type: ignore[assignment]
    return DataLayer(index, len)


def pool(name: str, *addresses: str, draining: str = "") -> PoolConfig:
    endpoints = tuple(
        EndpointConfig(address=one, server="ns/s", draining=one == draining) for one in addresses
    )
    return PoolConfig(name=name, endpoints=endpoints, health=CONFIG)


def test_every_pool_that_has_the_address_hears_of_it(layer: DataLayer) -> None:
    layer.configure([pool("p", A, B), pool("q", A)])
    for _ in range(2):
        layer.health.attempt_failed(A, cause=RESET, status=0, retry_after_s=0.0, now_s=1.0)
    layer.health.attempt_failed(B, cause=STATUS, status=503, retry_after_s=9.0, now_s=1.0)
    assert layer.pools["p"].table.view().ready.tolist() == [False, True]
    assert layer.pools["p"].table.view().weight.tolist() == [1.0, 0.0]
    assert layer.pools["q"].table.readiness.panic
    layer.configure([pool("p", B, A), pool("r", A, B)])
    for name, ready in (("p", [True, False]), ("r", [False, True])):
        assert layer.pools[name].table.view().ready.tolist() == ready
    status = layer.status("p", now_s=2.0)
    busy, ejected = status.endpoints
    assert (busy.ready, busy.weight, busy.until_s) == (True, 0.0, 8.0)
    assert (ejected.ready, ejected.unready, ejected.health) == (False, "ejected", "ejected")
    assert (ejected.cause, ejected.until_s) == ("reset", 4.0)
    assert (ejected.faults, ejected.ejections) == ({"transport_fault": 2}, {"reset": 1})
    assert layer.status("p", now_s=6.0).endpoints[1].health == "probing", "it looks at the clock"


def test_a_draining_endpoint_is_not_ready(layer: DataLayer) -> None:
    layer.configure([pool("p", A, B, draining=B)])
    assert layer.status("p", now_s=0.0).endpoints[1].unready == "draining"
    layer.configure([pool("p", A, B)])
    assert layer.pools["p"].table.view().ready.all()
