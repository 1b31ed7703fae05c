"""What is learnt of an engine whose true constants are known."""

from __future__ import annotations

import numpy as np
import pytest

from inferway.picker.datalayer.calibration import BATCH, BOUND, IDLE_S, Calibration
from inferway.picker.scheduling.engine_constants import SHIPPED, EngineConstants

SLOW = EngineConstants(
    prefill_tokens_per_s=9_700.0,
    attention_s=4.2e-9,
    first_token_s=0.04,
    step_s=11.9e-3,
    context_token_s=125e-9,
    sequence_s=8e-6,
)

LEARNT = ("prefill_tokens_per_s", "attention_s", "first_token_s", "step_s", "context_token_s")


class Answers:
    """Answers as an engine with these constants would give them, with noise."""

    def __init__(self, engine: EngineConstants, seed: int = 1) -> None:
        self.engine = engine
        self.rng = np.random.default_rng(seed)
        self.now_s = 0.0

    def teach(
        self, calibration: Calibration, address: str, count: int, garbage: float = 0.0
    ) -> None:
        k, rng = self.engine, self.rng
        for _ in range(count):
            self.now_s += 0.1
            factor = float(rng.choice([1e-3, 0.05, 20.0, 1e3])) if rng.random() < garbage else 1.0
            requests, context = rng.uniform(1, 60), rng.uniform(1e3, 2e5)
            tokens, length = rng.uniform(0, 500), rng.uniform(200, 20_000)
            pairs = tokens * length / 2
            itl_s = k.step_s + k.sequence_s * requests + k.context_token_s * context
            itl_s += tokens / k.prefill_tokens_per_s + k.attention_s * pairs
            calibration.inter_token(
                address,
                itl_s * factor * np.exp(0.02 * rng.standard_normal()),
                requests=requests,
                context_tokens=context,
                prefilled_tokens=tokens,
                prefilled_pairs=pairs,
                now_s=self.now_s,
            )
            length = float(np.exp(rng.uniform(4.0, 10.0)))
            uncached, ahead = rng.uniform(0.1, 1.0) * length, rng.choice([0, 0, 500, 20_000])
            pairs = uncached * (length - uncached / 2)
            work_s = (ahead + uncached) / k.prefill_tokens_per_s + k.attention_s * pairs
            calibration.first_token(
                address,
                (work_s + k.first_token_s) * factor * np.exp(0.2 * rng.standard_normal()),
                tokens=ahead + uncached,
                pairs=pairs,
                now_s=self.now_s,
            )


def calibration(**classes: str) -> Calibration:
    made = Calibration()
    made.rebind(classes)
    made.take_changed()
    return made


def of(made: Calibration, address: str) -> EngineConstants:
    learnt = made.learnt(address)
    assert learnt is not None
    return learnt.constants


def assert_near(found: EngineConstants, true: EngineConstants, *, within: float) -> None:
    for name in LEARNT:
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=within), name


def test_starts_from_what_is_shipped_and_waits_for_a_full_batch() -> None:
    made = calibration(a="x")
    Answers(SLOW).teach(made, "a", BATCH - 1)
    assert of(made, "a") == SHIPPED
    assert made.take_changed() == []


def test_learns_the_constants_of_another_accelerator() -> None:
    made = calibration(a="x")
    Answers(SLOW).teach(made, "a", 400)
    assert_near(of(made, "a"), SLOW, within=0.15)


def test_accelerators_that_share_a_class_come_out_apart() -> None:
    made = calibration(a="x", b="x")
    slow, fast = Answers(SLOW), Answers(SHIPPED, seed=2)
    for _ in range(25):
        slow.teach(made, "a", BATCH)
        fast.teach(made, "b", BATCH)
    assert_near(of(made, "a"), SLOW, within=0.2)
    assert_near(of(made, "b"), SHIPPED, within=0.2)


@pytest.mark.parametrize("seed", range(4))
def test_a_tenth_of_garbage_does_not_move_it(seed: int) -> None:
    made = calibration(a="x")
    Answers(SLOW, seed).teach(made, "a", 400, garbage=0.1)
    assert_near(of(made, "a"), SLOW, within=0.2)
    learnt = made.learnt("a")
    assert learnt is not None
    assert learnt.dropped > 0.05 * learnt.observations


def test_nothing_but_garbage_changes_nothing() -> None:
    made, rng = calibration(a="x"), np.random.default_rng(1)
    for _ in range(20 * BATCH):
        seconds = float(np.exp(rng.uniform(-15.0, 15.0)))
        made.first_token("a", seconds, tokens=1000.0, pairs=5e5, now_s=0.0)
    assert of(made, "a") == SHIPPED


def test_one_request_over_and_over_keeps_the_proportions() -> None:
    """No variation: the prefill speed and the fixed part cannot be told apart."""
    made = calibration(a="x")
    work_s = 1000.0 / SHIPPED.prefill_tokens_per_s + SHIPPED.attention_s * 5e5
    for _ in range(20 * BATCH):
        seconds = 3.0 * (work_s + SHIPPED.first_token_s)
        made.first_token("a", seconds, tokens=1000.0, pairs=5e5, now_s=0.0)
    found = of(made, "a")
    assert found.first_token_s == pytest.approx(3.0 * SHIPPED.first_token_s, rel=0.05)
    assert found.prefill_tokens_per_s == pytest.approx(SHIPPED.prefill_tokens_per_s / 3.0, rel=0.05)
    assert found.step_s == SHIPPED.step_s


def test_follows_a_server_that_becomes_slower() -> None:
    made = calibration(a="x")
    Answers(SHIPPED).teach(made, "a", 800)
    Answers(SLOW).teach(made, "a", 800)
    assert_near(of(made, "a"), SLOW, within=0.3)


def test_stays_within_a_factor_of_what_is_shipped() -> None:
    made = calibration(a="x")
    impossible = EngineConstants(
        prefill_tokens_per_s=31.0, first_token_s=25.0, step_s=7.7, context_token_s=76e-6
    )
    Answers(impossible).teach(made, "a", 400)
    found = of(made, "a")
    assert found.step_s <= BOUND * SHIPPED.step_s
    assert found.prefill_tokens_per_s >= SHIPPED.prefill_tokens_per_s / BOUND**2


def test_a_new_endpoint_starts_from_its_class() -> None:
    made = calibration(a="x", b="y")
    Answers(SLOW).teach(made, "a", 400)
    made.rebind({"a": "x", "b": "y", "c": "x"})
    assert_near(of(made, "c"), SLOW, within=0.2)
    assert of(made, "b") == SHIPPED


def test_a_restarted_engine_and_an_idle_one_start_from_their_class() -> None:
    made = calibration(a="x", b="x")
    slow, fast = Answers(SLOW), Answers(SHIPPED, seed=2)
    fast.teach(made, "b", 2000)
    slow.teach(made, "a", 10 * BATCH)
    learnt = of(made, "a")
    made.forget("a")
    forgotten = of(made, "a")
    assert forgotten.step_s < 0.9 * learnt.step_s
    slow.teach(made, "a", 10 * BATCH)
    made.take_changed()
    made.forget_idle(slow.now_s + IDLE_S / 2)
    assert made.take_changed() == []
    made.forget_idle(fast.now_s + IDLE_S + slow.now_s)
    assert {address for address, _ in made.take_changed()} == {"a", "b"}
    made.forget_idle(1e9)
    assert made.take_changed() == []


def test_a_changed_class_starts_anew_and_a_kept_one_does_not() -> None:
    made = calibration(a="x", b="x")
    Answers(SLOW).teach(made, "a", 400)
    learnt = of(made, "a")
    made.rebind({"a": "x"})
    assert of(made, "a") == learnt
    assert made.learnt("b") is None
    made.rebind({"a": "other"})
    assert of(made, "a") == SHIPPED


def test_an_address_that_is_gone_teaches_nothing() -> None:
    made = calibration(a="x")
    made.rebind({})
    Answers(SLOW).teach(made, "a", 2 * BATCH)
    made.forget("a")
    assert made.take_changed() == []
