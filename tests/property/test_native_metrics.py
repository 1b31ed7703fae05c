"""Prometheus pages read natively, against prometheus_client's own parser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from inferway import _native

NAMES = [
    "vllm:num_requests_waiting",
    "vllm:num_requests_running",
    "vllm:kv_cache_usage_perc",
    "vllm:lora_requests_info",
    "up",
]
OTHERS = [
    "vllm:num_requests_waitin",
    "vllm:num_requests_waiting2",
    "vllm:kv_cache_usage",
    "u",
    "pu",
]

label_values = st.text(
    alphabet=st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\\"\n,{}= #'),
    max_size=10,
)
label_sets = st.dictionaries(
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True), label_values, max_size=3
)
numbers = st.one_of(
    st.floats().map(
        lambda value: {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))
    ),
    st.integers(-(10**12), 10**12).map(str),
)


ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@st.composite
def lines(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(NAMES + OTHERS))
    labels = draw(label_sets)
    text = name
    if labels or draw(st.booleans()):
        pairs = [f'{label}="{value.translate(ESCAPES)}"' for label, value in labels.items()]
        tail = "," if pairs and draw(st.booleans()) else ""
        text += f"{{{draw(st.sampled_from([',', ', '])).join(pairs)}{tail}}}"
    text += draw(st.sampled_from([" ", "  ", "\t"])) + draw(numbers)
    if draw(st.booleans()):
        text += f" {draw(st.integers(0, 2**41))}"
    return text


comments = st.sampled_from(
    ["", "# HELP up one", "# TYPE up gauge", "# vllm:num_requests_waiting 5", "#"]
)


@settings(deadline=None)
@given(st.lists(lines() | comments, max_size=12))
def test_samples_are_those_of_the_reference_parser(page_lines: list[str]) -> None:
    text = "\n".join(page_lines) + "\n"
    expected: dict[str, list[tuple[dict[str, str], float]]] = {name: [] for name in NAMES}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in expected:
                expected[sample.name].append((sample.labels, float(sample.value)))
    page = _native.parse_metrics(text.encode(), NAMES)
    for name, samples in expected.items():
        assert repr(page.labels(name)) == repr(samples)
        value = samples[-1][1] if samples else math.nan
        assert repr(page.value(name)) == repr(None if math.isnan(value) else value)


@pytest.mark.parametrize(
    "line",
    [
        "up",
        "up ",
        "up x",
        "up 1 2 3",
        "up 1 x",
        'up{a="b" 1',
        'up{a="b} 1',
        "up{a=b} 1",
        'up{a="b"c="d"} 1',
        'up{="b"} 1',
        'up{1a="b"} 1',
        'up{a="b\\',
        "up{",
        "up{a",
    ],
)
def test_a_bad_line_costs_only_itself(line: str) -> None:
    page = _native.parse_metrics(f"up 1\n{line}\nvllm:kv_cache_usage_perc 0.5".encode(), NAMES)
    assert page.labels("up") == [({}, 1.0)]
    assert page.value("vllm:kv_cache_usage_perc") == 0.5


def test_bytes_that_are_not_utf8_cost_only_their_line() -> None:
    page = _native.parse_metrics(b'up{a="\xff"} 1\r\nup 2\r\n\xff\xfe\n', NAMES)
    assert page.labels("up") == [({}, 2.0)]


def test_absent_is_not_zero() -> None:
    page = _native.parse_metrics(b"up NaN\nother 3\n", NAMES)
    assert page.value("up") is None
    assert math.isnan(page.labels("up")[0][1])
    assert page.value("other") is None
    assert page.labels("vllm:num_requests_waiting") == []


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_page_makes_it_fail(page: bytes) -> None:
    _native.parse_metrics(b"up{" + page, NAMES)
