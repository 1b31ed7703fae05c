"""The contracts between the parts of a profile and the machinery that runs them.

A profile (profile.py) turns one request and the endpoint columns into one cost per endpoint; the
lowest wins. Its parts are small Python classes over numpy columns of shape (N,), N endpoints:
filters drop endpoints, costs and scorers rate them, one picker chooses. Inside a batch the
machinery runs the profile request by request, and charges each pick to the columns before the next
one, so a burst spreads (ARCHITECTURE.md rule 4).

Parts read columns and never write them. Accounting columns (`load`) are live. Every other column of
one `Endpoints` object never changes: the table hands out a new object after every scrape. So a part
may keep what it derives from those for as long as it is given the same object. Ages alone move on.

Unknown is not zero: a value that was never scraped is NaN. A part must rate an endpoint with
unknown values no better than the same endpoint with any known value at its worst reasonable
reading. `inferway.testing` checks this and the other rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.picker.scheduling.engine_constants import EngineColumns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class PickRequest(Protocol):
    """What the filter tells of a request, as far as decisions read it: the part of `_native.Pick`
    that is needed here. Strings are empty and numbers 0 when the client gave none. Everything
    below `hashes` is made anew each time it is read.
    """

    @property
    def stream(self) -> int: ...
    @property
    def prompt_bytes(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def streamed(self) -> bool: ...
    @property
    def fairness(self) -> str: ...
    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Of the prompt's blocks, each with all before it."""
        ...

    @property
    def received_ns(self) -> int:
        """When the filter had it, on a clock that never goes back."""
        ...

    @property
    def slo_ttft_ms(self) -> int: ...
    @property
    def slo_tpot_ms(self) -> int: ...
    @property
    def session(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def exclude(self) -> str:
        """Addresses with commas, not to be chosen again."""
        ...

    @property
    def subset(self) -> str | None:
        """Addresses with commas, the only ones to choose from; None: no hint was given."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Those that the route passes on, by lower-case name."""
        ...


class Request(NamedTuple):
    """What a part may know of a request. A tuple, because one is made for every decision.

    Token counts are estimates (bytes over the measured bytes per token). `matched_tokens` is at
    most `prompt_tokens - 1`: an engine always computes the last token.
    """

    prompt_tokens: float
    output_tokens: float  # expected: running mean of the model, capped by the client's own limit
    priority: int
    matched_tokens: Floats  # (N,) prompt tokens that each endpoint probably has cached
    # (N,) 0 resident, 1 room to load it, 2 already waiting for it there, 3 full. None: a base model
    adapter_tier: Floats | None
    model: str  # after a rewrite
    # (N,) who may still be chosen, as the filters before left it; None: everyone. What compares
    # endpoints with each other (the shortest queue of all) compares those.
    candidates: Bools | None
    pick: PickRequest  # all the rest that is known of it


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
    # [0, 1]: the chance with which an endpoint takes part in a choice. The machinery applies it.
    weight: Floats
    addresses: tuple[str, ...]  # ip:port or [ip6]:port; what identifies an endpoint over time
    labels: tuple[Mapping[str, str], ...]
    attributes: Mapping[str, Floats] = field(default_factory=dict)  # further scraped values
    constants: EngineColumns | None = None  # learnt of the engines; None: as shipped everywhere

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
    """The part of numpy's Generator that parts may use."""

    @overload
    def random(self) -> float: ...
    @overload
    def random(self, size: int) -> Floats: ...


@runtime_checkable
class Filter(Protocol):
    """Says who may be chosen.

    A filter that would leave nobody is passed over, unless it has a true attribute `required`: then
    the request is refused.
    """

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        """Shape (N,). Those that earlier filters dropped stay dropped, whatever this says."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Says how well each endpoint suits. The profile gives it a weight."""

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        """Shape (N,), each in [0, 1]; higher is better."""
        ...


@runtime_checkable
class Cost(Protocol):
    """Says what sending the request to each endpoint costs. What else a class has is shown to
    people: a text `unit`, and `parts(request, endpoints)`, columns by name that add up to the cost.

    `sequence` counts the pool's picks and `rng` is the pool's own. A cost that can be set against
    waiting has an attribute `wait_weight`: what a second of waiting for an endpoint adds to it.
    """

    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        """Shape (N,), finite, in a unit that the class documents; lower is better."""
        ...


@runtime_checkable
class Picker(Protocol):
    """Chooses, once everything is rated."""

    def choose(
        self, costs: Floats, candidates: Bools | None, rng: Random, *, count: int
    ) -> list[int]:
        """At most `count` rows, best first, none twice, candidates only (None: everyone is); empty
        when there is no candidate. `costs` is not kept and not changed.
        """
        ...


@runtime_checkable
class Learns(Protocol):
    """Wants to know what was chosen. What it remembers goes by address: rows move."""

    def placed(self, request: Request, endpoints: Endpoints, row: int) -> None: ...


Plugin = Filter | Scorer | Cost | Picker
