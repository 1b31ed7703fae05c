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
    ],
)
def test_usable(expression: str) -> None:
    assert expression_problem(expression) == ""


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("(unclosed", "unterminated"),
        ("*", "nothing to repeat"),
        (r"\pL", "bad escape"),
        ("(?=ahead)", "look-around"),
        ("(?<!behind)", "look-around"),
        (r"(a)\1", "back-reference"),
        ("(?P<n>a)(?P=n)", "back-reference"),
        ("(?>a)", "atomic"),
        ("(a)?(?(1)b|c)", "condition"),
        ("(?#words)a", "comment"),
        ("(?x) a", "flag"),
        (r"a\Z", r"\Z"),
        (r"\\u0041\u0041", r"\u"),
        ("a*+", "possessive"),
        ("x{1001}", "more than 1000"),
        ("x{1,1001}", "more than 1000"),
        ("x{99999999999999999999}", "repetition"),
    ],
)
def test_not_usable(expression: str, problem: str) -> None:
    assert problem in expression_problem(expression)
