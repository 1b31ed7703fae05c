"""In-flight accounting never leaks, whatever is lost, repeated or reconfigured."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inferway.picker.datalayer.accounting import Charge, InFlight
from inferway.picker.datalayer.table import EndpointTable

ADDRESSES = [f"10.0.0.{n}:8000" for n in range(4)]
filters = st.integers(1, 2)
streams = st.integers(1, 5)
tokens = st.integers(0, 2**32 - 1)
places = st.sampled_from([*ADDRESSES, ""])
models = st.sampled_from(["base", "adapter"])
subsets = st.lists(st.sampled_from(ADDRESSES), max_size=6)


class Accounting(RuleBasedStateMachine):
    """The model: a dictionary of open streams. The tables must always equal its sums."""

    def __init__(self) -> None:
        super().__init__()
        self.active: set[tuple[str, str]] = set()
        self.in_flight = InFlight(self.toggle)
        self.tables = [EndpointTable("a", ADDRESSES[:3]), EndpointTable("b", ADDRESSES[2:])]
        self.in_flight.rebind(self.tables)
        self.open: dict[tuple[int, int], list[object]] = {}

    def toggle(self, address: str, model: str) -> None:
        self.active ^= {(address, model)}

    @rule(f=filters, s=streams, address=places, model=models, uncached=tokens, context=tokens)
    def place(self, f: int, s: int, address: str, model: str, uncached: int, context: int) -> None:
        self.in_flight.place(f, s, Charge(address, model, uncached, context))
        self.open[f, s] = [address, model, uncached, context]

    @rule(
        f=filters, s=streams, address=places, model=models, uncached=tokens, phase=st.integers(0, 1)
    )
    def replay(self, f: int, s: int, address: str, model: str, uncached: int, phase: int) -> None:
        frame = SimpleNamespace(
            stream=s,
            charged_uncached=uncached,
            charged_context=uncached + 7,
            phase=phase,
            pool="a",
            model=model,
            endpoint=address,
        )
        self.in_flight.replay(f, frame)  # type: ignore[arg-type]
        self.open[f, s] = [address, model, 0 if phase else uncached, uncached + 7]

    @rule(f=filters, s=streams)
    def first(self, f: int, s: int) -> None:
        self.in_flight.first(f, s)
        if (f, s) in self.open:
            self.open[f, s][2] = 0

    @rule(f=filters, s=streams)
    def done(self, f: int, s: int) -> None:
        charge = self.in_flight.done(f, s)
        expected = self.open.pop((f, s), None)
        assert (charge is None) == (expected is None)

    @rule(f=filters)
    def drop_filter(self, f: int) -> None:
        lost = [key for key in self.open if key[0] == f]
        assert self.in_flight.drop_filter(f) == len(lost)
        for key in lost:
            del self.open[key]

    @rule(first=subsets, second=subsets)
    def reconfigure(self, first: list[str], second: list[str]) -> None:
        self.tables = [
            table.rebuilt(addresses)
            for table, addresses in zip(self.tables, (first, second), strict=True)
        ]
        self.in_flight.rebind(self.tables)

    @rule()
    def end_everything(self) -> None:
        for f, s in list(self.open):
            self.in_flight.done(f, s)
        self.open.clear()
        for table in self.tables:
            assert all(table.accounting(row) == (0.0, 0.0, 0.0) for row in range(len(table)))

    @invariant()
    def tables_equal_the_open_charges(self) -> None:
        assert len(self.in_flight) == len(self.open)
        for table in self.tables:
            for row, address in enumerate(table.addresses):
                here = [charge for charge in self.open.values() if charge[0] == address]
                expected = (len(here), sum(c[2] for c in here), sum(c[3] for c in here))
                assert table.accounting(row) == expected
                assert min(table.accounting(row)) >= 0.0

    @invariant()
    def models_equal_the_open_charges(self) -> None:
        expected: dict[tuple[str, str], int] = {}
        for charge in self.open.values():
            key = (str(charge[0]), str(charge[1]))
            expected[key] = expected.get(key, 0) + 1
        assert self.active == set(expected)
        for address in [*ADDRESSES, ""]:
            found = self.in_flight.models_at(address)
            assert dict(found) == {m: n for (a, m), n in expected.items() if a == address}


Accounting.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_accounting = Accounting.TestCase


def test_a_release_without_its_charge_is_refused_and_changes_nothing() -> None:
    table = EndpointTable("a", ADDRESSES)
    table.charge(1, 10, 20)
    for uncached, context in [(11, 20), (10, 21)]:
        with pytest.raises(ArithmeticError, match=r"10\.0\.0\.1:8000 below zero"):
            table.release(1, uncached, context)
        assert table.accounting(1) == (1.0, 10.0, 20.0)
    with pytest.raises(ArithmeticError, match="below zero"):
        table.release(0, 0, 0)
