"""Saturation formulas against worked numbers, and what the default detector learns."""

from __future__ import annotations

import numpy as np
import pytest

from inferway.picker.datalayer.table import EndpointTable
from inferway.picker.flowcontrol.ceilings import Ceilings
from inferway.picker.flowcontrol.config import (
    CeilingConfig,
    ConcurrencyConfig,
    EngineQueueConfig,
    SheddingConfig,
    UtilizationConfig,
)
from inferway.picker.flowcontrol.detectors import detector
from inferway.picker.flowcontrol.engine_queue import EngineQueue
from inferway.picker.flowcontrol.saturation import Detector, Scraped, pool_saturation
from inferway.picker.flowcontrol.shedding import shed_probability

NAN = float("nan")


def scraped(
    waiting: float | None = 0.0,
    running: float | None = 0.0,
    kv: float | None = 0.0,
    own: float = 0.0,
) -> Scraped:
    return Scraped(waiting, running, kv, own)


def bound(found: Detector, *addresses: str) -> EndpointTable:
    table = EndpointTable("pool", addresses)
    found.bind(table)
    return table


def send(table: EndpointTable, row: int, requests: int, tokens: int = 0) -> None:
    for _ in range(requests):
        table.charge(row, 0, tokens)
        table.count_pick(row)


@pytest.mark.parametrize(
    ("waiting", "kv", "expected"),
    [(0.0, 0.0, 0.0), (4.0, 0.2, 0.8), (1.0, 0.6, 0.75), (10.0, 0.9, 2.0), (None, 0.4, 0.5)],
)
def test_utilization(waiting: float | None, kv: float, expected: float) -> None:
    found = detector(UtilizationConfig())
    bound(found, "a")
    found.scraped(0, scraped(waiting, 3.0, kv), 0.0)
    assert found.saturation(0, 0.1) == pytest.approx(expected)
    assert found.saturations(0.1).tolist() == pytest.approx([expected])


def test_utilization_counts_what_was_sent_since() -> None:
    found = detector(UtilizationConfig(stale_after_s=10.0))
    table = bound(found, "queueing", "busy", "idle")
    for row, (waiting, running) in enumerate([(2.0, 30.0), (0.0, 30.0), (0.0, 0.0)]):
        send(table, row, 30)
        found.scraped(row, scraped(waiting, running, 0.1, own=30.0), 0.0)
        send(table, row, 20)
    # 2 + 20; 20 - 30/2; 20 - 8
    assert found.saturations(0.1).tolist() == pytest.approx([22 / 5, 5 / 5, 12 / 5])
    assert [found.saturation(row, 0.1) for row in range(3)] == pytest.approx([4.4, 1.0, 2.4])


def test_stale_values_count_only_where_requests_are_under_way() -> None:
    for stale, expected in [("saturated", [1.0, 0.6]), ("ignore", [NAN, 0.6])]:
        found = detector(UtilizationConfig.model_validate({"stale": stale}))
        table = bound(found, "busy", "idle")
        for row in (0, 1):
            found.scraped(row, scraped(3.0), 0.0)
        send(table, 0, 1)
        assert found.saturations(0.21).tolist() == pytest.approx(expected, nan_ok=True)
        assert found.saturation(0, 0.21) == (1.0 if stale == "saturated" else 0.0)
        assert found.saturation(1, 0.21) == 0.6


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("requests", [0.5, 0.1]), ("tokens", [0.2, 0.3]), ("hybrid", [0.5, 0.3])],
)
def test_concurrency(mode: str, expected: list[float]) -> None:
    config = ConcurrencyConfig.model_validate(
        {"mode": mode, "requests_max": 10, "tokens_max": 1_000, "headroom_ratio": 0.2}
    )
    found = detector(config)
    table = bound(found, "a", "b")
    send(table, 0, 5, tokens=40)
    send(table, 1, 1, tokens=300)
    assert found.saturations(0.0).tolist() == pytest.approx(expected)
    assert [found.saturation(row, 0.0) for row in (0, 1)] == pytest.approx(expected)
    assert found.full_ratio == 1.2


def test_a_pool_is_the_mean_of_what_is_ready_and_known() -> None:
    ready = np.array([True, True, False, True])
    assert pool_saturation(np.array([0.5, 1.5, 9.0, NAN]), ready) == 1.0
    assert pool_saturation(np.array([NAN] * 4), ready) == 0.0
    assert pool_saturation(np.zeros(4), np.zeros(4, dtype=np.bool_)) == 1.0


class Engine:
    """Runs at most `slots` of the requests that it was sent, each for `service_s`."""

    def __init__(self, slots: int) -> None:
        self.found = EngineQueue(EngineQueueConfig())
        self.table = bound(self.found, "a")
        self.slots, self.now_s = slots, 0.0

    def sent(self) -> int:
        return int(self.table.in_flight(0))

    def scrape(self, interval_s: float = 0.1) -> float:
        self.now_s += interval_s
        sent = self.sent()
        running = min(sent, self.slots)
        self.found.scraped(0, scraped(sent - running, running, 0.1, own=sent), self.now_s)
        return self.found.limit(0)

    def fill(self) -> None:
        while self.found.saturation(0, self.now_s) < 1.0:
            send(self.table, 0, 1)

    def empty(self, requests: int) -> None:
        for _ in range(requests):
            self.table.release(0, 0, 0)


@pytest.mark.parametrize("slots", [1, 8, 32, 63, 64, 65, 200, 1_000])
def test_the_limit_settles_just_above_what_the_engine_runs(slots: int) -> None:
    engine = Engine(slots)
    engine.scrape()
    for turn in range(60):
        engine.fill()
        engine.scrape()
        engine.empty(max(engine.sent() - int(engine.found.limit(0)), 0))
        if turn > 40:
            assert slots <= engine.found.limit(0) <= slots + max(2, slots // 8)


def test_a_burst_is_no_standing_queue() -> None:
    engine = Engine(64)
    engine.scrape()
    send(engine.table, 0, 64)
    engine.slots = 8  # the first step has not taken them all yet
    engine.scrape()
    assert engine.found.limit(0) >= 64
    engine.slots = 64
    engine.scrape()
    assert engine.found.limit(0) >= 64
    engine.slots = 8
    for _ in range(5):
        engine.scrape()
    assert engine.found.limit(0) <= 9


def test_an_idle_engine_proves_nothing() -> None:
    engine = Engine(100)
    engine.scrape()
    for _ in range(50):
        engine.scrape()
    assert engine.found.limit(0) == 64


def test_below_its_limit_only_a_lasting_queue_counts() -> None:
    engine = Engine(64)
    engine.scrape()
    send(engine.table, 0, 50)
    for waiting in (9.0, 9.0, 9.0, 9.0, 0.0, 9.0, 7.0, 9.0, 9.0):
        engine.found.scraped(0, scraped(waiting, 40.0, 0.1, own=50.0), 1.0)
        assert engine.found.limit(0) == 64
    engine.found.scraped(0, scraped(9.0, 40.0, 0.1, own=50.0), 1.0)
    assert 43 <= engine.found.limit(0) < 46


def test_a_short_queue_of_a_fast_engine_is_no_reason_to_hold_back() -> None:
    engine = Engine(64)
    engine.scrape()
    send(engine.table, 0, 60)
    for _ in range(40):  # 1,000 requests per second: 6 waiting are 6 ms
        send(engine.table, 0, 100)
        engine.empty(100)
        engine.now_s += 0.1
        engine.found.scraped(0, scraped(6.0, 54.0, 0.1, own=60.0), engine.now_s)
    assert engine.found.limit(0) >= 64


def test_what_others_send_is_their_share_of_the_excess() -> None:
    engine = Engine(64)
    engine.scrape()
    send(engine.table, 0, 10)
    for _ in range(5):  # 41 wait, 10 of 100 there are ours
        engine.found.scraped(0, scraped(41.0, 59.0, 0.1, own=10.0), 1.0)
    assert engine.found.limit(0) == pytest.approx(10.0 - 40.0 * 0.1)
    for _ in range(5):
        engine.found.scraped(0, scraped(500.0, 10.0, 0.1, own=500.0), 1.0)
    assert engine.found.limit(0) >= 1.0


def test_an_engine_that_tells_nothing_has_no_limit() -> None:
    engine = Engine(64)
    assert engine.found.saturation(0, 0.0) == 0.0
    engine.scrape()
    send(engine.table, 0, 64)
    assert engine.found.saturations(0.0).tolist() == [1.0]
    engine.found.scraped(0, scraped(None), 0.2)
    assert engine.found.saturation(0, 0.2) == 0.0


def test_what_was_learnt_of_an_endpoint_survives_other_rows() -> None:
    for config in (EngineQueueConfig(start_requests=7), UtilizationConfig()):
        found = detector(config)
        table = bound(found, "a", "b")
        found.scraped(1, scraped(3.0), 0.0)
        send(table, 1, 3)
        before = found.saturation(1, 0.1)
        assert before > 0.0
        table = table.rebuilt(["b", "c"])
        send(table, 0, 0)
        found.bind(table)
        assert found.saturation(0, 0.1) == before
        assert found.saturation(1, 0.1) == 0.0


def test_ceilings() -> None:
    config = CeilingConfig(least_ratio=0.8, most_ratio=1.0)
    by_rank = Ceilings(config, [10, -10])
    assert [by_rank.of(p) for p in (10, 0, -10)] == pytest.approx([1.0, 0.9, 0.8])
    assert [by_rank.of(p) for p in (99, 5, -1, -99)] == pytest.approx([1.0, 1.0, 0.9, 0.8])
    by_value = Ceilings(config.model_copy(update={"domain": "value"}), [10, -30])
    assert [by_value.of(p) for p in (10, 0, -20, 99)] == pytest.approx([1.0, 0.95, 0.85, 1.0])
    assert by_value.same_for_all is None
    assert Ceilings(CeilingConfig(), [1, 2]).same_for_all == 1.0
    assert Ceilings(config, []).same_for_all == 1.0


@pytest.mark.parametrize(
    ("waiting", "expected"), [(0.0, 0.0), (1.0, 300 * 0.2**5), (1.6, 1.0), (50.0, 1.0)]
)
def test_probabilistic_shedding(waiting: float, expected: float) -> None:
    table = EndpointTable("pool", ["a", "b", "c"])
    assert shed_probability(SheddingConfig(), table.view()) == 0.0
    for row in (0, 1):
        table.record(
            row, waiting=waiting, running=1.0, kv_usage_ratio=0.0, own_requests=0.0, now_s=0.0
        )
    assert shed_probability(SheddingConfig(), table.view()) == pytest.approx(expected)
