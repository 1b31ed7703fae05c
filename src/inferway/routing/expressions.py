r"""Regular expressions in manifests, checked before they reach the data plane.

Problem: Envoy refuses a whole configuration for one expression that RE2 cannot read, so one bad
route would freeze all others. Model: accept what both RE2 and Python's `re` understand, and refuse
what only one of them does (look-around, back-references, atomic groups and possessive repetition on
Python's side; `\p`, `\z`, `\Q` on RE2's). Not guaranteed: RE2's own memory limit, which depends on
Envoy's settings; what slips through is reported by `Programmed`.
"""

from __future__ import annotations

import re
import warnings

REPETITION_MAX = 1000  # RE2's limit for {n,m}

_ESCAPED = re.compile(r"\\[^1-9]", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
_PYTHON_ESCAPES = (r"\Z", r"\u", r"\U", r"\N")
_PYTHON_ONLY = {
    "look-around": re.compile(r"\(\?<?[=!]"),
    "a back-reference": re.compile(r"\\[1-9]|\(\?P="),
    "an atomic group": re.compile(r"\(\?>"),
    "a condition": re.compile(r"\(\?\("),
    "a comment": re.compile(r"\(\?#"),
    "a flag other than i, m and s": re.compile(r"\(\?[ims-]*[aLux]"),
    "possessive repetition": re.compile(r"[*+?}]\+"),
}
_REPETITION = re.compile(r"\{(\d+)(?:,(\d*))?\}")


def expression_problem(expression: str) -> str:
    """Why an expression cannot be used; empty when it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about syntax that may change in Python only
            re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    for escape in _ESCAPED.findall(expression):
        if escape in _PYTHON_ESCAPES:
            return f"{escape} is not supported"
    # Escaped characters and classes are read away, so that what is left is syntax.
    syntax = _CLASS.sub("[]", _ESCAPED.sub("_", expression))
    for construct, pattern in _PYTHON_ONLY.items():
        if pattern.search(syntax):
            return f"{construct} is not supported"
    for found in _REPETITION.finditer(syntax):
        if any(int(number) > REPETITION_MAX for number in found.groups() if number):
            return f"repetition of more than {REPETITION_MAX} is not supported"
    return ""
