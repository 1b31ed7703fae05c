"""Token usage found natively in responses, against a plain Python reading of the same bytes."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from inferway import _native

counts = st.one_of(
    st.integers(0, 2**33),
    st.integers(-5, 5),
    st.floats(0, 1e4, allow_nan=False),
    st.sampled_from([None, True, "5", 7.0, 1e300, [], {}]),
)
details = st.one_of(
    st.none(),
    counts,
    st.fixed_dictionaries({}, optional={"cached_tokens": counts, "audio": counts}),
)
usages = st.one_of(
    st.none(),
    st.just([{"prompt_tokens": 1}]),
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": counts,
            "input_tokens": counts,
            "completion_tokens": counts,
            "output_tokens": counts,
            "prompt_tokens_details": details,
            "input_tokens_details": details,
            "cache_read_input_tokens": counts,
            "total_tokens": counts,
            "usage": counts,
        },
    ),
)
content = st.text(max_size=20) | st.just('"usage": {"prompt_tokens": 3}')
choices = st.lists(st.fixed_dictionaries({"content": content, "usage": usages}), max_size=2)
holders = st.fixed_dictionaries({"id": content}, optional={"usage": usages, "content": content})
events = st.fixed_dictionaries(
    {"id": content},
    optional={
        "choices": choices,
        "usage": usages,
        "response": holders | usages,
        "message": holders,
    },
)


@st.composite
def json_texts(draw: st.DrawFn) -> str:
    event = draw(events)
    text = json.dumps(event, ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        again = json.dumps(draw(events))
        text = text[:-1] + "," + again[1:]
    if draw(st.integers(0, 9)) == 0:
        text = text.replace("usage", "us\\u0061ge")
    if draw(st.integers(0, 9)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text


def whole_number(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        return None
    return value


def first_number(*values: object) -> int | None:
    return next((n for n in map(whole_number, values) if n is not None), None)


class Oracle:
    """Merges the reports of JSON texts, number by number, later over earlier."""

    def __init__(self) -> None:
        self.known: dict[str, int | None] = dict.fromkeys(("prompt", "cached", "completion"))

    def text(self, data: bytes, nested: bool) -> None:
        try:
            event = json.loads(data.decode())
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        if nested:
            for name in ("message", "response"):
                if isinstance(holder := event.get(name), dict):
                    self.report(holder.get("usage"))
        self.report(event.get("usage"))

    def report(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return

        def cached(name: str) -> object:
            inner = usage.get(name)
            return inner.get("cached_tokens") if isinstance(inner, dict) else None

        found = {
            "prompt": first_number(usage.get("prompt_tokens"), usage.get("input_tokens")),
            "cached": first_number(
                cached("prompt_tokens_details"),
                cached("input_tokens_details"),
                usage.get("cache_read_input_tokens"),
            ),
            "completion": first_number(usage.get("completion_tokens"), usage.get("output_tokens")),
        }
        self.known.update({name: value for name, value in found.items() if value is not None})

    def result(self) -> tuple[int, int, int] | None:
        if self.known["prompt"] is None and self.known["completion"] is None:
            return None
        return tuple(self.known[name] or 0 for name in ("prompt", "cached", "completion"))  # type: ignore[return-value]


def native(data: bytes, places: list[int], event_stream: bool) -> tuple[int, int, int] | None:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    usage = _native.response_usage(pieces, event_stream)
    if usage is None:
        return None
    return usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens


cuts = st.lists(st.integers(min_value=0), max_size=8)


@settings(deadline=None)
@given(text=json_texts(), places=cuts)
def test_json_bodies(text: str, places: list[int]) -> None:
    oracle = Oracle()
    oracle.text(text.encode(), nested=False)
    assert native(text.encode(), places, event_stream=False) == oracle.result()


lines = st.one_of(
    json_texts().map(lambda text: f"data: {text}"),
    json_texts().map(lambda text: f"data:{text}"),
    json_texts(),
    st.sampled_from(
        [
            "",
            ": ping",
            "event: message_delta",
            "id: 5",
            "data: [DONE]",
            "data:",
            "dat",
            "data: x",
            "data : 1",
        ]
    ),
)
ends = st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\r\n", "\r"])


@settings(deadline=None)
@given(
    parts=st.lists(st.tuples(lines, ends), max_size=8),
    last=lines | st.just(""),
    places=cuts,
)
@example(
    parts=[('data: {"usage":{"prompt_tokens":9}}', "\r\n"), ("data: [DONE]", "\r\n")],
    last='data: {"usage":{"completion_tokens":2}}',
    places=[35, 36, 37],
)
def test_event_streams(parts: list[tuple[str, str]], last: str, places: list[int]) -> None:
    data = "".join(line + end for line, end in parts) + last
    oracle = Oracle()
    for line in re.split(b"\r|\n", data.encode()):
        if line.startswith(b"data:"):
            oracle.text(line[5:], nested=True)
    assert native(data.encode(), places, event_stream=True) == oracle.result()


@settings(deadline=None)
@given(data=st.binary(max_size=200), places=cuts)
def test_garbage_is_no_usage(data: bytes, places: list[int]) -> None:
    assert native(data, places, event_stream=True) is None
    assert native(data, places, event_stream=False) is None


def test_messages_events_add_up() -> None:
    """Anthropic's way: prompt tokens in the first event, output tokens in a later one."""
    stream = (
        'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":'
        '{"input_tokens":25,"cache_read_input_tokens":16,"output_tokens":1}}}\n\n'
        'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":15}}\n\n'
    )
    assert native(stream.encode(), [], event_stream=True) == (25, 16, 15)


def test_a_stream_that_reports_as_it_goes_counts_once() -> None:
    stream = "".join(
        f'data: {{"choices":[],"usage":{{"prompt_tokens":7,"completion_tokens":{n}}}}}\n\n'
        for n in range(1, 5)
    )
    assert native(stream.encode(), [], event_stream=True) == (7, 0, 4)
