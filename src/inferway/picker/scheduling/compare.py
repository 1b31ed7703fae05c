"""Comparing endpoints with each other, and keeping what follows from scraped columns.

Who is compared are the candidates: an endpoint that cannot be chosen is no measure for the others.
An unknown value (NaN) takes no part and scores 0, the worst there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request


def fewest(values: Floats, candidates: Bools | None) -> Floats:
    """1 for the least of the candidates, 0 for the greatest, linear between; 1 when all are equal.

    Clipped to [0, 1] for who is no candidate.
    """
    known = ~np.isnan(values)
    compared = values[known] if candidates is None else values[known & candidates]
    if not compared.size:
        return np.zeros(len(values))
    low, high = float(compared.min()), float(compared.max())
    scores: Floats
    if high > low:
        scores = np.clip((high - values) / (high - low), 0.0, 1.0)
    else:
        scores = (values <= high).astype(np.float64)
    scores[~known] = 0.0
    return scores


def greatest(values: Floats, candidates: Bools | None) -> float:
    """Of known values of candidates; 0 without any."""
    compared = values if candidates is None else values[candidates]
    return float(np.fmax.reduce(compared, initial=0.0)) if compared.size else 0.0


class Kept:
    """A column that follows from scraped columns and the candidates: computed when either is
    another object, which is once per scrape as a rule. Nobody may write to what it answers.
    """

    __slots__ = ("_candidates", "_column", "_derive", "_endpoints")

    def __init__(self, derive: Callable[[Endpoints, Bools | None], Floats]) -> None:
        self._derive = derive
        self._endpoints: Endpoints | None = None
        self._candidates: Bools | None = None
        self._column: Floats = np.zeros(0)

    def __call__(self, request: Request, endpoints: Endpoints) -> Floats:
        candidates = request.candidates
        if endpoints is not self._endpoints or candidates is not self._candidates:
            self._column = self._derive(endpoints, candidates)
            self._column.flags.writeable = False
            self._endpoints, self._candidates = endpoints, candidates
        return self._column


class Rows:
    """The row of an address; the table is made anew when the addresses are other ones."""

    __slots__ = ("_addresses", "_rows")

    def __init__(self) -> None:
        self._addresses: tuple[str, ...] = ()
        self._rows: dict[str, int] = {}

    def of(self, endpoints: Endpoints) -> dict[str, int]:
        if endpoints.addresses is not self._addresses:
            self._addresses = endpoints.addresses
            self._rows = {address: row for row, address in enumerate(self._addresses)}
        return self._rows
