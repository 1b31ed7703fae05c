"""What the contracts allow a plugin to answer, checked. Answers are copied: a plugin may hand out a
column that changes later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Floats


class BadAnswerError(Exception):
    """A plugin answered what its contract does not allow."""


def floats(answer: object, count: int) -> Floats:
    """Finite numbers, one per endpoint."""
    values = np.array(answer, dtype=np.float64)
    _check_shape(values.shape, count)
    if not np.isfinite(values).all():
        raise BadAnswerError(f"not finite: {_rows_where(~np.isfinite(values))}")
    return values


def scores(answer: object, count: int) -> Floats:
    """Numbers in [0, 1], one per endpoint."""
    values = floats(answer, count)
    outside = (values < 0.0) | (values > 1.0)
    if outside.any():
        raise BadAnswerError(f"scores outside [0, 1]: {_rows_where(outside)}")
    return values


def bools(answer: object, count: int) -> Bools:
    """True or False, one per endpoint."""
    values = np.array(answer)
    _check_shape(values.shape, count)
    if values.dtype != np.bool_:
        raise BadAnswerError(f"want True or False per endpoint, not {values.dtype}")
    return values


def rows(answer: object, candidates: Bools | None, *, endpoints: int, count: int) -> list[int]:
    """At most `count` different candidates; at least one if there is one."""
    chosen = [int(row) for row in answer] if isinstance(answer, list | tuple) else None
    if chosen is None:
        raise BadAnswerError(f"want a list of rows, not {type(answer).__name__}")
    if len(chosen) > count or len(set(chosen)) < len(chosen):
        raise BadAnswerError(f"want at most {count} different rows: {chosen}")
    allowed = range(endpoints) if candidates is None else set(candidates.nonzero()[0].tolist())
    if not all(row in allowed for row in chosen):
        raise BadAnswerError(f"rows that are no candidates: {chosen}")
    if not chosen and allowed:
        raise BadAnswerError("no row, though there are candidates")
    return chosen


def _check_shape(shape: tuple[int, ...], count: int) -> None:
    if shape != (count,):
        raise BadAnswerError(f"shape {shape}; want one value per endpoint: ({count},)")


def _rows_where(bad: Bools) -> str:
    found = bad.nonzero()[0].tolist()
    return f"rows {', '.join(map(str, found[:5]))}{' …' if len(found) > 5 else ''}"
