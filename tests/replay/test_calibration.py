"""The decision path over simulated engines in virtual time: what calibration finds and does."""

from __future__ import annotations

from statistics import mean

import pytest

from bench.calibration import H100, garbage
from bench.virtual_pool import VirtualPool, Workload, slower
from inferway.picker.scheduling.engine_constants import SHIPPED, EngineConstants

SLOW = slower(H100, 3.0)
MIXED = [H100, H100, SLOW, SLOW]
LOAD = Workload(rate_per_s=10.0)
SECONDS = 100.0


def learnt(pool: VirtualPool, row: int) -> EngineConstants:
    found = pool.layer.speeds.calibration.learnt(pool.addresses[row])
    assert found is not None
    return found.constants


def assert_is(found: EngineConstants, engine: object, *, within: float) -> None:
    """Prefill and decode speed, the two that decide; the others have little weight here."""
    assert found.prefill_tokens_per_s == pytest.approx(
        engine.prefill_tokens_per_s,  # type: ignore[attr-defined]
        rel=within,
    )
    true_step_s = engine.step_fixed_s + engine.weight_read_s  # type: ignore[attr-defined]
    assert found.step_s == pytest.approx(true_step_s, rel=within)


@pytest.mark.parametrize("garbage_ratio", [0.0, 0.05])
def test_unlike_accelerators_that_nothing_tells_apart_are_found_out(garbage_ratio: float) -> None:
    pool = VirtualPool(MIXED, LOAD, told=garbage(garbage_ratio))
    pool.run(SECONDS)
    for row, engine in enumerate(MIXED):
        assert_is(learnt(pool, row), engine, within=0.35)
    fast, slow = learnt(pool, 0), learnt(pool, 2)
    assert 2.0 < fast.prefill_tokens_per_s / slow.prefill_tokens_per_s < 4.5
    assert 2.0 < slow.step_s / fast.step_s < 4.0


def test_learning_shifts_work_to_the_faster_and_lowers_the_mean_latency() -> None:
    means, shares = [], []
    for calibrate in (False, True):
        served = []
        for seed in (1, 2):
            served += VirtualPool(MIXED, LOAD, calibrate=calibrate, seed=seed).run(SECONDS)
        steady = [one for one in served if one.arrived_s > SECONDS / 4]
        means.append(mean(one.duration_s for one in steady))
        shares.append(mean(one.endpoint < 2 for one in steady))
    assert means[1] < 0.93 * means[0]
    assert shares[1] > shares[0]


def test_equal_engines_keep_equal_constants() -> None:
    """So noise prefers none of them, and the cost stays one product."""
    pool = VirtualPool([H100] * 3, LOAD)
    pool.run(SECONDS)
    columns = pool.layer.pools["virtual/pool"].table.view().constants
    assert columns is not None
    assert columns.alike
    assert_is(learnt(pool, 0), H100, within=0.25)


def test_without_streams_the_decode_speed_is_learnt_all_the_same() -> None:
    pool = VirtualPool([SLOW, SLOW], Workload(rate_per_s=3.0, prompt_tokens=500.0, streamed=False))
    pool.run(2 * SECONDS)
    assert learnt(pool, 0).step_s > 2.0 * SHIPPED.step_s


def test_a_label_tells_accelerators_apart_before_the_first_answer() -> None:
    labels = [{"inferway.dev/accelerator": name} for name in ("fast", "fast", "slow", "slow")]
    pool = VirtualPool(MIXED, LOAD, labels=labels)
    pool.run(SECONDS)
    pool.layer.speeds.forget(pool.addresses[2])
    assert_is(learnt(pool, 2), SLOW, within=0.35)
