"""Health against a plain oracle, over random events in virtual time: 100,000 steps in all.

The oracle keeps the whole history of an endpoint and derives from it, at every step and with no
counter of its own, what the state machine keeps up to date.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import takewhile

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from inferway.picker.datalayer.faults import Cause, FaultClass
from inferway.picker.datalayer.health import EndpointHealth, HealthState
from inferway.picker.datalayer.health_book import HealthBook
from inferway.picker.health_config import HealthConfig

STEPS, EXAMPLES = 4_000, 25
GENERATE = (Phase.generate,)  # a seed does not get smaller

configs = st.builds(
    HealthConfig,
    consecutive_faults=st.integers(1, 6),
    window_s=st.sampled_from([2.0, 10.0]),
    window_requests_min=st.integers(2, 12),
    window_fault_ratio=st.sampled_from([0.2, 0.5, 1.0]),
    ejection_s=st.sampled_from([1.0, 5.0]),
    ejection_max_s=st.sampled_from([3.0, 40.0]),
    probe_timeout_s=st.sampled_from([2.0, 30.0]),
    retry_after_max_s=st.sampled_from([0.0, 4.0]),
    back_pressure_factor=st.sampled_from([0.3, 0.5, 1.0]),
    back_pressure_recovery_s=st.sampled_from([0.5, 1.5]),
    share_min=st.sampled_from([0.01, 0.2]),
)


@dataclass
class Oracle:
    config: HealthConfig
    # Ejected until a time, or readmitted with so many faults on record; in order.
    history: list[tuple[HealthState, float, float]] = field(default_factory=list)
    # Of the active period so far: (time, good).
    results: list[tuple[float, bool]] = field(default_factory=list)
    # Since the last ejection: [time, stream, told nothing].
    probes: list[tuple[float, int, bool]] = field(default_factory=list)
    busy: list[tuple[float, float]] = field(default_factory=list)  # (time, share then)
    held_until_s: float = -1.0

    def state(self, now_s: float) -> HealthState:
        state, _, until_s = self.history[-1] if self.history else (HealthState.ACTIVE, 0.0, 0.0)
        if state is HealthState.EJECTED and now_s >= until_s:
            return HealthState.PROBING
        return state

    def probe(self, now_s: float) -> int | None:
        if self.state(now_s) is not HealthState.PROBING or not self.probes:
            return None
        began_s, stream, over = self.probes[-1]
        return None if over or now_s >= began_s + self.config.probe_timeout_s else stream

    def usable(self, now_s: float) -> bool:
        state = self.state(now_s)
        return state is HealthState.ACTIVE or (
            state is HealthState.PROBING and self.probe(now_s) is None
        )

    def share(self, now_s: float) -> float:
        if now_s < self.held_until_s:
            return 0.0
        if not self.busy:
            return 1.0
        at_s, share = self.busy[-1]
        since_s = now_s - max(at_s, self.held_until_s)
        return min(1.0, share + since_s / self.config.back_pressure_recovery_s)

    def fault(self, now_s: float) -> None:
        state = self.state(now_s)
        if state is HealthState.EJECTED:
            return
        if state is HealthState.ACTIVE:
            self.results.append((now_s, False))
            row = sum(1 for _ in takewhile(lambda one: not one[1], reversed(self.results)))
            if row == len(self.results) and self.history:
                row += int(self.history[-1][2])
            window = self._window()
            faults = sum(not good for good in window)
            many = len(window) >= self.config.window_requests_min
            ratio = many and faults >= self.config.window_fault_ratio * len(window)
            if row < self.config.consecutive_faults and not ratio:
                return
        ejections = 1
        for (kind, at_s, _), following_s in zip(
            reversed(self.history),
            [now_s, *(one[1] for one in reversed(self.history))],
            strict=False,
        ):
            if kind is HealthState.EJECTED:
                ejections += 1
            elif following_s >= at_s + self.config.ejection_max_s:
                break
        length_s = min(self.config.ejection_s * 2 ** (ejections - 1), self.config.ejection_max_s)
        self.history.append((HealthState.EJECTED, now_s, now_s + length_s))
        self.results, self.probes = [], []

    def _window(self) -> list[bool]:
        """Results since the first fault of the window that is open now."""
        window: list[bool] = []
        began_s: float | None = None
        for at_s, good in self.results:
            if began_s is not None and at_s >= began_s + self.config.window_s:
                began_s, window = None, []
            if began_s is None and not good:
                began_s = at_s
            if began_s is not None:
                window.append(good)
        return window

    def busy_answer(self, retry_after_s: float, now_s: float) -> None:
        share = self.share(now_s)
        if retry_after_s > 0:
            asked_s = min(retry_after_s, self.config.retry_after_max_s)
            self.held_until_s = max(self.held_until_s, now_s + asked_s)
            after = self.config.share_min
        else:
            before = self.busy[-1][1] if now_s < self.held_until_s else share
            after = max(self.config.share_min, before * self.config.back_pressure_factor)
        self.busy.append((now_s, after))

    def placed(self, stream: int, now_s: float) -> None:
        if self.state(now_s) is HealthState.PROBING and self.probe(now_s) is None:
            self.probes.append((now_s, stream, False))

    def began(self, stream: int, now_s: float) -> None:
        if self.probe(now_s) == stream:
            self._readmit(now_s, self.config.consecutive_faults - 1)

    def ended(self, stream: int, now_s: float, *, success: bool) -> None:
        if self.probe(now_s) == stream:
            if success:
                self._readmit(now_s, 0)
            else:
                self.probes[-1] = (*self.probes[-1][:2], True)
        elif success and self.state(now_s) is HealthState.ACTIVE:
            self.results.append((now_s, True))

    def _readmit(self, now_s: float, on_record: int) -> None:
        self.history.append((HealthState.ACTIVE, now_s, on_record))
        self.results = []


def step(rng: random.Random, now_s: float, stream: int, *ones: EndpointHealth | Oracle) -> None:
    """One random event, the same for all."""
    kind = rng.choices(range(6), (20, 25, 8, 25, 10, 12))[0]
    old = max(0, stream - rng.randrange(4))
    retry_after_s = rng.choice([0.0, 0.0, 1.0, 7.0])
    for one in ones:
        name = old if isinstance(one, Oracle) else (0, old)
        match kind:
            case 0:
                one.fault(now_s) if isinstance(one, Oracle) else one.fault(Cause.RESET, now_s)
            case 1:
                one.ended(name, now_s, success=True)  # type: ignore[arg-type]
            case 2:
                one.ended(name, now_s, success=False)  # type: ignore[arg-type]
            case 3:
                one.placed(stream if isinstance(one, Oracle) else (0, stream), now_s)  # type: ignore[arg-type]
            case 4:
                one.began(name, now_s)  # type: ignore[arg-type]
            case _ if isinstance(one, Oracle):
                one.busy_answer(retry_after_s, now_s)
            case _:
                one.back_pressure(retry_after_s, now_s)


@given(configs, st.integers(0, 2**32))
@settings(max_examples=EXAMPLES, deadline=None, phases=GENERATE)
def test_the_machine_agrees_with_the_history(config: HealthConfig, seed: int) -> None:
    rng, one, oracle, now_s = random.Random(seed), EndpointHealth(config), Oracle(config), 0.0
    seen = set()
    for stream in range(STEPS):
        # Eighths of a second add up exactly.
        now_s += rng.choice([0.0, 0.0, 0.125, 0.25, 1.0, 1.5 if stream % 50 else 48.0])
        one.advance(now_s)
        step(rng, now_s, stream, one, oracle)
        seen.add(one.state)
        assert one.state is oracle.state(now_s)
        assert one.usable is oracle.usable(now_s)
        one.advance(now_s)
        assert one.due_s > now_s
        if now_s < oracle.held_until_s:
            assert one.share == 0.0
        elif one.share != 1.0 or not oracle.busy:
            # It grows in steps, so that it may lag by one.
            lag = 0.1 / config.back_pressure_recovery_s + 1e-9
            assert oracle.share(now_s) - lag <= one.share <= oracle.share(now_s) + 1e-9
        else:
            assert oracle.share(now_s) == pytest.approx(1.0)
    assert seen == set(HealthState)


@given(configs, st.integers(0, 2**32))
@settings(max_examples=20, deadline=None, phases=GENERATE)
def test_looking_only_when_due_is_enough(config: HealthConfig, seed: int) -> None:
    """Whoever follows `due_s` sees what one sees who looks all the time."""
    rng, often, seldom, now_s = (
        random.Random(seed),
        EndpointHealth(config),
        EndpointHealth(config),
        0.0,
    )
    for stream in range(400):
        for _ in range(rng.randrange(20)):
            now_s += 0.0625
            often.advance(now_s)
            if now_s >= seldom.due_s:
                seldom.advance(now_s)
            assert (often.state, often.usable) == (seldom.state, seldom.usable)
        step(rng, now_s, stream, often, seldom)
        assert (often.state, often.usable) == (seldom.state, seldom.usable)


@given(
    st.lists(
        st.tuples(
            st.integers(400, 499),
            st.sampled_from(["attempt", "stream", "both"]),
            st.floats(0.0, 100.0),
        ),
        max_size=300,
    )
)
@settings(max_examples=60, deadline=None)
def test_no_client_error_changes_anything(errors: list[tuple[int, str, float]]) -> None:
    """408 and 429 say that the server is busy: they lower a share, and eject nobody either."""
    changed: list[str] = []
    book = HealthBook(changed.append)
    book.configure({"a:1": HealthConfig(consecutive_faults=1, window_requests_min=1)})
    now_s = 0.0
    for number, (status, reported, waited_s) in enumerate(errors):
        now_s += waited_s
        book.advance(now_s)
        if reported != "stream":
            book.attempt_failed("a:1", cause=4, status=status, retry_after_s=0.0, now_s=now_s)
        if reported != "attempt":
            book.ended("a:1", "a:1", (1, number), end=0, status=status, fault=0, now_s=now_s)
        assert book.standing("a:1").usable
    if all(status not in (408, 429) for status, _, _ in errors):
        assert (changed, book.watched, book.counters) == ([], {}, {})


@given(st.lists(st.tuples(st.sampled_from([429, 503]), st.floats(0.0, 0.5)), max_size=300))
@settings(max_examples=60, deadline=None)
def test_traffic_returns_within_two_seconds_of_a_storm(storm: list[tuple[int, float]]) -> None:
    book = HealthBook(lambda _address: None)
    book.configure({"a:1": HealthConfig()})
    now_s = 0.0
    for status, waited_s in storm:
        now_s += waited_s
        book.attempt_failed("a:1", cause=4, status=status, retry_after_s=0.0, now_s=now_s)
        assert book.standing("a:1").usable
        assert book.standing("a:1").share >= HealthConfig().share_min
    end_s = now_s + 2.0
    while book.due_s <= end_s:
        book.advance(book.due_s)
    assert book.standing("a:1") == (True, 1.0, HealthState.ACTIVE, None, None)
    faults = {FaultClass.BACK_PRESSURE: len(storm)} if storm else {}
    assert {c: n for one in book.counters.values() for c, n in one.faults.items()} == faults
