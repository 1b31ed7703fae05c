"""Running means of request sizes, and what must not move them."""

from __future__ import annotations

import pytest

from inferway.picker.datalayer.estimates import BYTES_PER_TOKEN, OUTPUT_TOKENS, Estimates


def observe(estimates: Estimates, model: str = "m", times: int = 1, **values: int) -> None:
    usage = {"prompt_bytes": 4000, "prompt_tokens": 1000, "completion_tokens": 200}
    for _ in range(times):
        estimates.observe(model, **{**usage, **values})


def test_an_unknown_model_has_the_defaults() -> None:
    found = Estimates().of("m")
    assert (found.output_tokens, found.bytes_per_token) == (OUTPUT_TOKENS, BYTES_PER_TOKEN)


def test_one_observation_moves_the_mean_by_a_twentieth() -> None:
    estimates = Estimates()
    observe(estimates, completion_tokens=400, prompt_bytes=6000)
    assert estimates.of("m").output_tokens == pytest.approx(210.0)
    assert estimates.of("m").bytes_per_token == pytest.approx(4.1)


def test_models_are_kept_apart_and_overall_sees_all() -> None:
    estimates = Estimates()
    observe(estimates, "long", times=200, completion_tokens=2000)
    observe(estimates, "short", times=200, completion_tokens=10)
    assert estimates.of("long").output_tokens == pytest.approx(2000, rel=0.01)
    assert estimates.of("short").output_tokens == pytest.approx(10, rel=0.01)
    assert estimates.of("third").output_tokens == OUTPUT_TOKENS
    assert 10 <= estimates.overall.output_tokens < 2000


@pytest.mark.parametrize(
    "garbage",
    [
        {"prompt_bytes": 0},  # not known after a replay
        {"prompt_tokens": 0},
        {"prompt_tokens": 31, "prompt_bytes": 310},  # mostly chat template
        {"prompt_bytes": 3_000_000},  # an image as base64
        {"prompt_bytes": 100},
    ],
)
def test_prompts_that_are_no_text_do_not_move_bytes_per_token(garbage: dict[str, int]) -> None:
    estimates = Estimates()
    observe(estimates, **garbage)
    assert estimates.of("m").bytes_per_token == BYTES_PER_TOKEN


@pytest.mark.parametrize("tokens", [0, 1_000_001, 2**32 - 1])
def test_impossible_outputs_do_not_move_the_mean(tokens: int) -> None:
    estimates = Estimates()
    observe(estimates, completion_tokens=tokens)
    assert estimates.of("m").output_tokens == OUTPUT_TOKENS


def test_the_number_of_models_is_bounded() -> None:
    estimates = Estimates(models_max=2)
    for model in ("a", "b", "c"):
        observe(estimates, model, completion_tokens=400)
    assert [estimates.of(m).output_tokens for m in "abc"] == [210.0, 210.0, OUTPUT_TOKENS]
    observe(estimates, "a", completion_tokens=400)
    assert estimates.of("a").output_tokens > 210.0
