"""The contract between a policy and the machinery that runs it.

A policy is a function of one request and the endpoint columns that returns one cost per endpoint;
the lowest cost wins, ties are broken at random. Inside a batch the machinery calls it request by
request, and charges each pick to the columns before the next call, so a burst spreads
(ARCHITECTURE.md rule 4). Columns are numpy views of shape (N,): a policy reads them and never
writes.

Accounting columns are live. Scraped columns and `ready` of one `Endpoints` object never change: the
table hands out a new object after every scrape. So a policy may keep what it derives from scraped
columns for as long as it is given the same object.

Unknown is not zero: a value that was never scraped is NaN. A policy must give an endpoint with
unknown values no better a cost than the same endpoint with any known value would get at its worst
reasonable reading; `inferway.testing` will check it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Request(NamedTuple):
    """What a policy may know of a request. A tuple, because one is made for every decision.

    Token counts are estimates (bytes over the measured bytes per token). `matched_tokens` is at
    most `prompt_tokens - 1`: an engine always computes the last token.
    """

    prompt_tokens: float
    output_tokens: float  # expected: running mean of the model, capped by the client's own limit
    priority: int
    matched_tokens: Floats  # (N,) prompt tokens that each endpoint probably has cached
    # (N,) 0 resident, 1 room to load it, 2 already waiting for it there, 3 full. None: a base model
    adapter_tier: Floats | None


@dataclass(frozen=True, slots=True, eq=False)
class Endpoints:
    """Columns of a pool's endpoints, each of shape (N,)."""

    # (4, N): `in_flight`, `pending_tokens`, `context_tokens` and ones, so that a cost that is
    # linear in them is one product.
    load: Floats
    waiting: Floats  # scraped; NaN = unknown
    running: Floats  # scraped; NaN = unknown
    kv_usage_ratio: Floats  # scraped, 0 … 1; NaN = unknown
    # scraped waiting + running beyond our own in-flight requests of that moment; NaN = unknown
    foreign_requests: Floats
    metrics_age_s: Floats  # since the last good scrape; inf = never
    ready: Bools  # may receive requests

    @property
    def in_flight(self) -> Floats:
        """Requests we sent that have not ended."""
        column: Floats = self.load[0]
        return column

    @property
    def pending_tokens(self) -> Floats:
        """Uncached prompt tokens sent whose first token has not come."""
        column: Floats = self.load[1]
        return column

    @property
    def context_tokens(self) -> Floats:
        """Prompt + expected output tokens in flight."""
        column: Floats = self.load[2]
        return column

    def __len__(self) -> int:
        return len(self.ready)


class Random(Protocol):
    """The part of numpy's Generator that policies may use."""

    @overload
    def random(self) -> float: ...
    @overload
    def random(self, size: int) -> Floats: ...


class Policy(Protocol):
    """Stateless but for what the constructor took.

    `sequence` counts the pool's picks and `rng` is the pool's own.
    """

    @property
    def name(self) -> str: ...

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        """Cost per endpoint, shape (N,), finite; lower is better. The caller applies readiness."""
        ...
