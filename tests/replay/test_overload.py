"""Twice the load that a pool can carry, in virtual time: what clients of each priority see."""

from __future__ import annotations

import pytest

from bench.overload.scenario import Figures, measure
from inferway.picker.flowcontrol.config import (
    CeilingConfig,
    ConcurrencyConfig,
    FlowConfig,
)

CAPACITY = 67.5  # requests per second of the pool with engines that are never without work
SECONDS = 20.0


@pytest.fixture(scope="module")
def unloaded() -> Figures:
    """The requests of priority 10, alone."""
    return measure(
        FlowConfig(), capacity=CAPACITY, normal=0.0, wanted=0.4, seconds=SECONDS, warm_up_s=5.0
    )


@pytest.fixture(scope="module")
def overloaded() -> Figures:
    return measure(FlowConfig(), capacity=CAPACITY, seconds=SECONDS)


def test_only_negative_priorities_are_shed(overloaded: Figures) -> None:
    assert set(overloaded.refused) == {"batch"}
    assert overloaded.refused["batch"] > 50


def test_what_matters_most_does_not_notice(unloaded: Figures, overloaded: Figures) -> None:
    assert overloaded.latency_p95_s["high"] <= 1.2 * unloaded.latency_p95_s["high"]


def test_priorities_come_in_their_order(overloaded: Figures) -> None:
    ttft_s = overloaded.ttft_p95_s
    assert ttft_s["high"] < ttft_s["normal"] < ttft_s["batch"]


def test_nothing_of_the_pool_is_lost(overloaded: Figures) -> None:
    assert overloaded.per_s >= 0.97 * CAPACITY


def test_equal_tenants_get_the_same(overloaded: Figures) -> None:
    assert overloaded.jain >= 0.95


def test_who_waits_as_told_is_served(overloaded: Figures) -> None:
    told = overloaded.told
    assert told.served + told.refused > 50
    assert told.success_ratio >= 0.95
    assert told.never <= 0.05 * told.served


def test_without_flow_control_everybody_waits(unloaded: Figures) -> None:
    """The scenario is one that hurts: else the tests above would show nothing."""
    anything = ConcurrencyConfig(requests_max=1_000_000)
    config = FlowConfig(mode="legacy", detector=anything)
    found = measure(config, capacity=CAPACITY, seconds=SECONDS)
    assert found.latency_p95_s["high"] > 2.0 * unloaded.latency_p95_s["high"]


def test_hold_back_shortens_the_wait_for_the_first_token(overloaded: Figures) -> None:
    config = FlowConfig(ceiling=CeilingConfig(least_ratio=0.8))
    found = measure(config, capacity=CAPACITY, seconds=SECONDS)
    assert found.ttft_p95_s["high"] < 0.75 * overloaded.ttft_p95_s["high"]
    assert found.per_s >= 0.9 * CAPACITY
