"""Regular expressions in manifests, checked before they reach the data plane.

Problem: Envoy refuses a whole configuration for one expression that its engine, RE2, cannot read or
finds too large, so one bad route would freeze all others. Model: RE2 itself is asked, with the
options that Envoy compiles with. Its program may have so many instructions and no more: the limit
is Envoy's too (bootstrap.py), and bounds the memory and time that one match can cost.
"""

from __future__ import annotations

import re2

# A literal takes one instruction per byte, a class of Unicode letters some hundred.
PROGRAM_SIZE_MAX = 10_000


def expression_problem(expression: str) -> str:
    """Why an expression cannot be used; empty when it can."""
    options = re2.Options()
    options.log_errors = False
    try:
        size = int(re2.compile(expression, options).programsize)
    except re2.error as error:
        return b" ".join(error.args).decode(errors="replace")
    except UnicodeEncodeError as error:
        return f"not Unicode text: {error.reason}"
    if size > PROGRAM_SIZE_MAX:
        return f"too large: {size} instructions of RE2, at most {PROGRAM_SIZE_MAX}"
    return ""
