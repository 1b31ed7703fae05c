"""Request bodies read natively, against Python's json: verdict, fields and prompt for any cut."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inferway import _native

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES = 1, 2, 3, 4, 5
MAIN_PARTS = {
    0: ("messages", "prompt", "input"),
    CHAT: ("messages",),
    COMPLETIONS: ("prompt",),
    EMBEDDINGS: ("input",),
    RESPONSES: ("input",),
    MESSAGES: ("messages",),
}
KEYS = [
    "model",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "priority",
    "cache_salt",
    "tools",
    "instructions",
    "system",
    "messages",
    "prompt",
    "input",
    "user",
    "models",
    "temperature",
]
TOOLS = [
    *('[{"type":"function"}]', '[{"type":"function"}, {"x":[], "type":"mcp"}]', "[]"),
    *('[{"type":"custom","function":{"type":"mcp"}}]', '[{"type":null}, 5, {"t\\u0079pe":"x"}]'),
]

blanks = st.text(alphabet=" \t\n\r", max_size=2)
numbers = st.from_regex(
    r"-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)


@st.composite
def quoted(draw: st.DrawFn, text: str | None = None) -> str:
    """A JSON string, each character in one of the ways in which it may be written."""
    if text is None:
        text = draw(st.text(max_size=12))
    out = []
    for character in text:
        ways = []
        if character not in '"\\' and ord(character) >= 0x20:
            ways.append(character)
        if ord(character) < 0x10000:
            ways.append(f"\\u{ord(character):04x}")
        else:
            high, low = divmod(ord(character) - 0x10000, 0x400)
            ways.append(f"\\u{0xD800 + high:04X}\\u{0xDC00 + low:04x}")
        if short := {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\t": "\\t"}.get(character):
            ways.append(short)
        out.append(draw(st.sampled_from(ways)))
    return f'"{"".join(out)}"'


lone_surrogates = st.sampled_from(
    ['"\\ud800"', '"a\\uDFFFb"', '"\\ud800\\ud800\\udc00"', '"\\ud83dx"']
)
scalars = st.sampled_from(["true", "false", "null"]) | numbers | quoted() | lone_surrogates


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(quoted(), blanks, inner).map(lambda m: f"{m[0]}{m[1]}:{m[2]}")
    return st.builds(
        lambda items, blank: f"[{blank}{','.join(items)}{blank}]",
        st.lists(inner, max_size=4),
        blanks,
    ) | st.builds(
        lambda items, blank: f"{{{blank}{f'{blank},'.join(items)}{blank}}}",
        st.lists(member, max_size=4),
        blanks,
    )


values = st.recursive(scalars, containers, max_leaves=8)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[list[tuple[str, str]], str]:
    """An object as (key, raw value) pairs in order, and its text."""
    pair = st.tuples(st.sampled_from(KEYS), values) | st.tuples(
        st.just("tools"), st.sampled_from(TOOLS)
    )
    pairs = draw(st.lists(pair, max_size=8))
    members = [
        f"{draw(blanks)}{draw(quoted(key))}{draw(blanks)}:{draw(blanks)}{value}{draw(blanks)}"
        for key, value in pairs
    ]
    return pairs, f"{draw(blanks)}{{{','.join(members)}}}{draw(blanks)}"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def whole_number(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return None


def max_tokens(fields: dict[str, object], kind: int) -> int:
    names = ["max_output_tokens"] if kind == RESPONSES else ["max_completion_tokens", "max_tokens"]
    given = next((fields[name] for name in names if fields.get(name) is not None), None)
    number = whole_number(given)
    return number if number is not None and 0 <= number < 2**32 else 0


def prompt(raw: dict[str, str], kind: int) -> bytes:
    parts = [
        raw[name] for name in ("tools", "instructions", "system") if raw.get(name, "null") != "null"
    ]
    main = next((raw[name] for name in MAIN_PARTS[kind] if raw.get(name, "null") != "null"), None)
    if main is not None:
        parts.append(main[:-1] if main.startswith("[") else main)
    return "\0".join(parts).encode()


def runs_tools(tools: object) -> bool:
    if not isinstance(tools, list):
        return False
    types = [tool.get("type") for tool in tools if isinstance(tool, dict)]
    return any(isinstance(name, str) and name not in {"function", "custom"} for name in types)


cuts = st.lists(st.integers(min_value=0), max_size=6)


@settings(deadline=None)
@given(body=bodies(), kind=st.sampled_from(sorted(MAIN_PARTS)), places=cuts)
def test_fields_and_prompt_are_those_that_python_sees(
    body: tuple[list[tuple[str, str]], str], kind: int, places: list[int]
) -> None:
    pairs, text = body
    raw = dict(pairs)
    fields = {key: json.loads(value) for key, value in pairs}
    read = _native.request_fields(cut(text.encode(), places), kind)

    def clean(value: object) -> str | None:
        return re.sub("[\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else None

    assert json.loads(text) == fields
    assert read.model == clean(fields.get("model"))
    assert read.model_not_string == (not isinstance(fields.get("model"), str | None))
    assert read.stream is (fields.get("stream") is True)
    assert read.max_tokens == max_tokens(fields, kind)
    priority = whole_number(fields.get("priority"))
    assert read.priority == (None if priority is None else max(-(2**31), min(2**31 - 1, priority)))
    assert read.cache_salt == clean(fields.get("cache_salt"))
    assert read.user == clean(fields.get("user"))
    assert read.server_tools == runs_tools(fields.get("tools"))
    expected = prompt(raw, kind)
    assert read.prompt_bytes == len(expected)
    seed = 0 if read.cache_salt is None else _native.hash_seed(read.cache_salt)
    assert read.hashes.tolist() == _native.block_hashes(expected, seed).tolist()


@settings(deadline=None)
@given(body=bodies(), target=st.text(max_size=40), places=cuts)
def test_another_model_is_all_that_python_sees_to_be_different(
    body: tuple[list[tuple[str, str]], str], target: str, places: list[int]
) -> None:
    """Of several keys the last is meant, by us and by whoever reads the body."""
    data = body[1].encode()
    pieces = cut(data, places)
    read = _native.request_fields(pieces, CHAT)
    fields = json.loads(data)
    assert (read.model_range is None) is not isinstance(fields.get("model"), str)
    if read.model_range is None:
        return
    start, end = read.model_range
    assert json.loads(data[start:end]) == fields["model"]
    spliced = b"".join(_native.spliced(pieces, start, end, target))
    assert json.loads(spliced) == {**fields, "model": target}
    assert spliced[:start] == data[:start]
    assert spliced[len(spliced) - (len(data) - end) :] == data[end:]
    assert _native.request_fields([spliced], CHAT).model == target


@settings(deadline=None)
@given(
    stream=st.sampled_from(["true", "false", "null"]),
    options=st.lists(
        st.sampled_from(
            [
                *("null", "{}", "{ }", '{"include_usage":true}', '{"include_usage" : false}'),
                *('{"x":{"include_usage":true}}', '{"include_usage":null,"y":[1]}', "7", '"x"'),
                '{"include_usage":true,"include_usage":false}',
            ]
        ),
        max_size=2,
    ),
    first=st.booleans(),
    places=cuts,
)
def test_usage_is_asked_for_with_nothing_else_changed(
    stream: str, options: list[str], first: bool, places: list[int]
) -> None:
    members = [f'"stream": {stream}', *(f'"stream_options" :{one}' for one in options), '"a":1']
    text = f" {{ {','.join(members if first else members[::-1])}}}"
    fields = json.loads(text)
    edit = _native.request_fields(cut(text.encode(), places), CHAT).usage_edit
    assert _native.request_fields([text.encode()], RESPONSES).usage_edit is None
    options_before = fields.get("stream_options")
    known = options_before is None or isinstance(options_before, dict)
    asked = isinstance(options_before, dict) and options_before.get("include_usage") is True
    if stream != "true" or asked or not known:
        assert edit is None
        return
    assert edit is not None
    start, end, put = edit
    after = json.loads(text[:start] + put + text[end:])
    wanted = {**(options_before or {}), "include_usage": True}
    assert after == {**fields, "stream_options": wanted}


def test_a_place_that_ends_before_it_begins_is_an_error() -> None:
    with pytest.raises(ValueError, match="start: 2; at most end: 1"):
        _native.spliced([b"{}"], 2, 1, "x")


@settings(deadline=None)
@given(
    tools=st.integers(0, 700),
    turns=st.lists(st.integers(0, 900), max_size=8),
    salt=st.none() | st.text(max_size=5),
    reverse=st.booleans(),
    places=cuts,
)
def test_long_prompts_hash_alike_wherever_their_parts_stand(
    tools: int, turns: list[int], salt: str | None, reverse: bool, places: list[int]
) -> None:
    raw = {
        "tools": json.dumps(["t" * tools]),
        "messages": json.dumps([{"role": "user", "content": "é\n" * turn} for turn in turns]),
        "cache_salt": json.dumps(salt),
    }
    members = [f'"{key}": {value}' for key, value in raw.items()]
    if reverse:
        members.reverse()
    text = f"{{{','.join(members)}}}"
    read = _native.request_fields(cut(text.encode(), places), CHAT)
    seed = 0 if salt is None else _native.hash_seed(salt)
    assert read.hashes.tolist() == _native.block_hashes(prompt(raw, CHAT), seed).tolist()


def test_a_conversation_that_goes_on_keeps_its_hashes() -> None:
    turns = [{"role": "user", "content": "x" * 1000}]
    before = _native.request_fields([json.dumps({"messages": turns}).encode()], CHAT)
    turns.append({"role": "assistant", "content": "y" * 1000})
    after = _native.request_fields([json.dumps({"messages": turns}).encode()], CHAT)
    assert len(before.hashes) == 4
    assert after.hashes[:4].tolist() == before.hashes.tolist()


def refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def is_legal(data: bytes) -> bool:
    try:
        json.loads(data.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


damage = st.lists(
    st.tuples(
        st.integers(min_value=0),
        st.sampled_from(["insert", "replace", "delete"]),
        st.sampled_from(b'{}[]",:\\/u0129eE+-.tfnNI \n\t\x00\x1f\x7f\x80\xc3\xa9\xed\xf0\xff'),
    ),
    max_size=3,
)


@settings(deadline=None)
@given(text=values | bodies().map(lambda body: body[1]), damages=damage, places=cuts)
@example(text="\ufeff{}", damages=[], places=[])
@example(text="NaN", damages=[], places=[])
@example(text="[-Infinity]", damages=[], places=[])
@example(text='"\x7f"', damages=[], places=[])
@example(text="1.", damages=[], places=[1])
@example(text="-", damages=[], places=[])
@example(text="", damages=[], places=[])
@example(text='{"a":1,}', damages=[], places=[])
@example(text="[1,]", damages=[], places=[])
@example(text='{"a":1]', damages=[], places=[])
@example(text="tru", damages=[], places=[2])
@example(text='"\\u12', damages=[], places=[3])
def test_what_json_refuses_is_refused_and_nothing_else(
    text: str, damages: list[tuple[int, str, int]], places: list[int]
) -> None:
    data = bytearray(text.encode())
    for place, how, byte in damages:
        at = place % (len(data) + 1)
        data[at : at + (how != "insert")] = b"" if how == "delete" else bytes([byte])
    pieces = cut(bytes(data), places)
    if is_legal(bytes(data)):
        _native.request_fields(pieces, 0)
    else:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text says which rule
            _native.request_fields(pieces, 0)
        reason, offset = caught.value.args
        assert isinstance(reason, str)
        assert 0 <= offset <= len(data)


def test_nesting_has_a_limit() -> None:
    _native.request_fields([b"[" * 512 + b"]" * 512], 0)
    with pytest.raises(ValueError, match="512 levels"):
        _native.request_fields([b"[" * 513 + b"]" * 513], 0)


@pytest.mark.parametrize("field", ["model", "cache_salt"])
def test_short_texts_have_a_limit(field: str) -> None:
    longest = "\\u0041" * 1024
    read = _native.request_fields([f'{{"{field}":"{longest}"}}'.encode()], CHAT)
    assert getattr(read, field) == "A" * 1024
    for raw in ("a" * 1025, "é" * 513, "\\u0041" * 1025, "x" * 100_000):
        body = f'{{"{field}":"{raw}"}}'.encode()
        for size in (len(body), 100):
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            with pytest.raises(ValueError, match="1024 bytes"):
                _native.request_fields(pieces, CHAT)


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="kind: 6"):
        _native.request_fields([b"{}"], 6)


@settings(deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 2**64 - 1))
def test_blocks_are_chained(prompt: bytes, seed: int) -> None:
    chain = []
    at = 0
    while _native.block_end_bytes(len(chain) + 1) <= len(prompt):
        end = _native.block_end_bytes(len(chain) + 1)
        (seed_or_hash,) = _native.fixed_block_hashes(
            prompt[at:end], end - at, chain[-1] if chain else seed
        ).tolist()
        chain.append(seed_or_hash)
        at = end
    hashes = _native.block_hashes(prompt, seed)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == chain


def test_hashes_do_not_drift() -> None:
    """Index keys live in more than one process: what they are may never change."""
    text = bytes(range(256)) * 40
    hashes = _native.block_hashes(text, 0).tolist()
    assert len(hashes) == 36
    assert (hashes[0], hashes[-1]) == (0x9408A4433B952D71, 0x9875F6C588030EF6)
    assert _native.hash_seed("llama-3-8b-instruct") == 0xD406041573436A4A
