"""Reading OpenAI bodies."""

import pytest

from inferway.simulator.openai_requests import (
    ApiError,
    parse_embedding,
    parse_generation,
    parse_object,
    parse_tokenize,
)

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b"\xff", b"[" * 100_000])
def test_bodies_that_are_not_objects_are_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_object(body)
    assert caught.value.status == 400


def test_defaults_of_chat_and_completions() -> None:
    chat = parse_generation("chat", CHAT)
    assert (chat.stream, chat.include_usage, chat.max_tokens, chat.min_tokens) == (
        *(False, False, None, 0),
    )
    completion = parse_generation("completion", {"prompt": "hi"})
    assert (completion.max_tokens, completion.model) == (16, None)


def test_the_newer_token_limit_wins() -> None:
    both = {**CHAT, "max_tokens": 5, "max_completion_tokens": 7}
    assert parse_generation("chat", both).max_tokens == 7
    response = {"input": "hi", "max_output_tokens": 9, "max_tokens": 5}
    assert parse_generation("response", response).max_tokens == 9


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("abcdefgh", [2]), (["abcd", "efghi"], [1, 2]), ([1, 2, 3], [3]), ([[1, 2], [3]], [2, 1])],
)
def test_all_forms_of_a_completion_prompt(prompt: object, tokens: list[int]) -> None:
    parsed = parse_generation("completion", {"prompt": prompt})
    assert [entry.tokens for entry in parsed.prompts] == tokens


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"messages": None}, "messages must be a list"),
        ({"messages": ["hi"]}, "messages must be a list of objects"),
        ({"model": 5}, "model must be a string"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"max_tokens": "5"}, "max_tokens must be an integer"),
        ({"max_tokens": True}, "max_tokens must be an integer"),
        ({"n": 2}, "Only n=1"),
        ({"min_tokens": -1}, "min_tokens must be at least 0"),
    ],
)
def test_bad_chat_fields_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        parse_generation("chat", {**CHAT, **changes})
    assert caught.value.status == 400


@pytest.mark.parametrize("prompt", [None, [], [[]], [1, "a"], {"a": 1}, [2**40], ["a"] * 65])
def test_bad_completion_prompts_are_refused(prompt: object) -> None:
    with pytest.raises(ApiError) as caught:
        parse_generation("completion", {"prompt": prompt})
    assert caught.value.parameter == "prompt"


def test_instructions_come_before_the_input() -> None:
    given = parse_generation("response", {"instructions": "be kind", "input": "hi"})
    assert given.prompts[0].data == b"<|system|>be kind<|user|>hi<|assistant|>"
    with pytest.raises(ApiError, match="input must be"):
        parse_generation("response", {"input": 5})


def test_usage_in_streams_has_to_be_asked_for() -> None:
    asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    assert parse_generation("chat", asked).include_usage
    assert not parse_generation("chat", {**asked, "stream_options": None}).include_usage


def test_embeddings_and_tokenize() -> None:
    given = parse_embedding({"input": ["a", "b"], "dimensions": 8, "encoding_format": "base64"})
    assert (len(given.prompts), given.dimensions, given.base64) == (2, 8, True)
    with pytest.raises(ApiError, match="at most 8192"):
        parse_embedding({"input": "a", "dimensions": 9000})
    assert parse_tokenize({"prompt": "abcdefgh"}).tokens == 2
    assert parse_tokenize(CHAT).data.startswith(b"<|user|>hi")
    with pytest.raises(ApiError, match="prompt or messages is required"):
        parse_tokenize({})


def test_errors_have_the_shape_of_vllm() -> None:
    error = ApiError(404, "The model `x` does not exist.", "NotFoundError", "model")
    assert parse_object(error.body()) == {
        "error": {
            "message": "The model `x` does not exist.",
            "type": "NotFoundError",
            "param": "model",
            "code": 404,
        }
    }
