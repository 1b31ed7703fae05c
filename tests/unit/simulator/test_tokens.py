"""Text, tokens and block hashes."""

import statistics

import pytest

from inferway.simulator.tokens import (
    TOKEN_BYTES,
    Filler,
    block_hashes,
    cache_seed,
    chat_prompt,
    natural_length,
    text_prompt,
    token_prompt,
)


def hashes(data: bytes, seed: int = 1) -> list[int]:
    return block_hashes(data, block_tokens=16, seed=seed)


def test_four_bytes_are_a_token() -> None:
    assert [text_prompt(text).tokens for text in ("", "a", "abcd", "abcde", "éé")] == [
        *(1, 1, 1, 2, 1)
    ]
    assert token_prompt([5, 6, 7]).tokens == 3


def test_ids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="not a token id"):
        token_prompt([2**40])
    with pytest.raises(ValueError, match="not a token id"):
        token_prompt([-1])


def test_equal_beginnings_have_equal_hashes_and_differ_from_there_on() -> None:
    one, other = hashes(b"x" * 256), hashes(b"x" * 128 + b"y" * 128)
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other[2:])
    assert len(hashes(b"x" * 127)) == 1


@pytest.mark.parametrize("other", [("m2", None, ""), ("m", "tuned", ""), ("m", None, "salt")])
def test_model_adapter_and_salt_keep_caches_apart(other: tuple[str, str | None, str]) -> None:
    assert cache_seed("m", None, "") != cache_seed(*other)


def test_the_next_turn_begins_with_the_blocks_of_this_one_and_its_answer() -> None:
    turn = [{"role": "system", "content": "s" * 333}, {"role": "user", "content": "why?"}]
    prompt = chat_prompt(turn)
    answer = Filler(3).text(77, 100)
    computed = hashes(prompt.data + answer)
    following = [
        *turn,
        {"role": "assistant", "content": answer.decode()},
        {"role": "user", "content": "go on"},
    ]
    assert hashes(chat_prompt(following).data)[: len(computed)] == computed


def test_content_may_come_in_parts() -> None:
    parts = [{"type": "text", "text": "ab"}, {"type": "text", "text": "cd"}]
    in_parts = chat_prompt([{"role": "user", "content": parts}])
    assert in_parts == chat_prompt([{"role": "user", "content": "abcd"}])
    empty = chat_prompt([{"role": "assistant", "content": None}])
    assert empty.data == b"<|assistant|><|assistant|>"


def test_tools_calls_and_images_are_part_of_the_prompt() -> None:
    plain = chat_prompt([{"role": "user", "content": "hi"}])
    tools = chat_prompt([{"role": "user", "content": "hi"}], [{"type": "function"}])
    calls = chat_prompt([{"role": "user", "content": "hi", "tool_calls": [{"id": "1"}]}])
    image = chat_prompt([{"role": "user", "content": ["hi", {"image_url": {"url": "u"}}]}])
    assert len({plain.data, tools.data, calls.data, image.data}) == 4


def test_filler_is_reproducible_and_never_ends() -> None:
    filler = Filler(1)
    assert filler.text(10, 50) == Filler(1).text(10, 50)
    assert filler.text(10, 50) != Filler(2).text(10, 50)
    long = filler.text(16_380, 40_000)
    assert len(long) == 40_000 * TOKEN_BYTES
    assert set(long[::TOKEN_BYTES]) == {ord(" ")}
    assert long[4 * TOKEN_BYTES :][:400] == filler.text(0, 100)


def test_answer_lengths_have_the_asked_mean() -> None:
    lengths = [natural_length(200, seed=seed) for seed in range(4000)]
    assert statistics.mean(lengths) == pytest.approx(200, rel=0.05)
    assert min(lengths) >= 1
    assert natural_length(200, seed=5) == natural_length(200, seed=5)
