"""Regular expressions that would make Envoy refuse everything are found before."""

from __future__ import annotations

import pytest

from inferway.routing.expressions import expression_problem


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "/v1/(chat/)?completions",
        "(?i)gemma-.*",
        "(?:a|b)+?",
        "(?P<version>v[0-9]{1,3})",
        r"\(?=literal",
        r"\\d{2,}",
        r"[(?=]+",
        r"[]+]+x",
        r"[[:alpha:]]+",
        r"a\++",
        r"\\Z",
        "x{1000}",
        "x" * 4096,
        r"\pL+\z",
        r"\Q(literal\E",
    ],
)
def test_usable(expression: str) -> None:
    assert expression_problem(expression) == ""


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("(unclosed", "missing )"),
        ("*", "no argument for repetition"),
        ("(?=ahead)", "(?="),
        ("(?<!behind)", "(?<"),
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("(?P<n>a)(?P=n)", "(?P"),
        ("(?>a)", "(?>"),
        ("(a)?(?(1)b|c)", "(?("),
        ("(?#words)a", "(?#"),
        ("(?x) a", "(?x"),
        (r"a\Z", r"\Z"),
        (r"\u0041", r"\u"),
        ("a*+", "bad repetition operator: *+"),
        ("x{1001}", "invalid repetition size: {1001}"),
        ("(abcdefghijkl){900}", "too large: "),
        (r"\pL{900}", "too large"),
        ("\ud800", "not Unicode"),
    ],
)
def test_not_usable(expression: str, problem: str) -> None:
    assert problem in expression_problem(expression)
