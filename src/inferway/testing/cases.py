"""Requests and endpoint columns as a plugin gets them, from a few numbers.

Everything that is not given is known and idle: an endpoint without load whose scraped values are 0
and fresh, a request of 1,000 prompt and 200 output tokens of which nothing is cached anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np

from inferway.picker.scheduling.contracts import Endpoints, Request
from inferway.picker.scheduling.engine_constants import SHIPPED, EngineColumns, column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from inferway.picker.scheduling.contracts import Floats, Ints

_Number = TypeVar("_Number", np.float64, np.bool_)
LOAD: Final = ("in_flight", "pending_tokens", "context_tokens")
SCRAPED: Final = ("waiting", "running", "kv_usage_ratio", "foreign_requests")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asked for; stands for the filter's message."""

    stream: int = 1
    prompt_bytes: int = 4_000
    max_tokens: int = 0
    model: str = "llama"
    streamed: bool = True
    fairness: str = ""
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    received_ns: int = 0
    slo_ttft_ms: int = 0
    slo_tpot_ms: int = 0
    session: str = ""
    user: str = ""
    exclude: str = ""
    subset: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Case(NamedTuple):
    request: Request
    endpoints: Endpoints


def endpoints(
    count: int,
    *,
    ready: Sequence[bool] | None = None,
    addresses: Sequence[str] | None = None,
    labels: Sequence[Mapping[str, str]] | None = None,
    attributes: Mapping[str, Sequence[float]] | None = None,
    constants: EngineColumns | None = None,
    **columns: Sequence[float],
) -> Endpoints:
    """`columns`: by their names in `Endpoints`; NaN is unknown."""

    def given(name: str, usual: float = 0.0) -> Floats:
        return np.array(columns.get(name, [usual] * count), dtype=np.float64)

    known = {*LOAD, *SCRAPED, "metrics_age_s", "weight"}
    if unknown := sorted(columns.keys() - known):
        raise TypeError(f"no column of Endpoints: {', '.join(unknown)}")
    return Endpoints(
        load=np.stack([*map(given, LOAD), np.ones(count)]),
        waiting=given("waiting"),
        running=given("running"),
        kv_usage_ratio=given("kv_usage_ratio"),
        foreign_requests=given("foreign_requests"),
        metrics_age_s=given("metrics_age_s"),
        ready=np.array(ready or [True] * count, dtype=np.bool_),
        weight=given("weight", 1.0),
        addresses=tuple(addresses or (f"10.0.{i >> 8}.{i & 255}:8000" for i in range(count))),
        labels=tuple(labels or [{}] * count),
        attributes={name: np.array(values) for name, values in (attributes or {}).items()},
        constants=constants,
    )


def request(
    count: int,
    *,
    prompt_tokens: float = 1_000.0,
    output_tokens: float = 200.0,
    priority: int = 0,
    matched_tokens: Sequence[float] | None = None,
    adapter_tier: Sequence[float] | None = None,
    model: str = "llama",
    candidates: Sequence[bool] | None = None,
    pick: Asked | None = None,
) -> Request:
    """A request to `count` endpoints."""
    return Request(
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        priority=priority,
        matched_tokens=np.array(matched_tokens or [0.0] * count),
        adapter_tier=None if adapter_tier is None else np.array(adapter_tier, dtype=np.float64),
        model=model,
        candidates=None if candidates is None else np.array(candidates, dtype=np.bool_),
        pick=pick or Asked(model=model),
    )


def random_case(rng: np.random.Generator, count: int) -> Case:
    """Any state that may occur, with about a fifth of scraped values unknown."""

    def sometimes_unknown(high: float) -> list[float]:
        column = rng.random(count) * high
        column[rng.random(count) < 0.2] = np.nan
        return [float(value) for value in column]

    def whole(high: int) -> list[float]:
        return [float(value) for value in rng.integers(0, high, count)]

    prompt_tokens = float(rng.integers(1, 100_000))
    constants = np.array([column(SHIPPED)]).T * rng.uniform(0.2, 5.0, (6, count))
    return Case(
        request(
            count,
            prompt_tokens=prompt_tokens,
            output_tokens=float(rng.integers(1, 2_000)),
            matched_tokens=((prompt_tokens - 1.0) * rng.random(count)).tolist(),
            adapter_tier=whole(4) if rng.random() < 0.5 else None,
            pick=Asked(
                session=f"session-{rng.integers(0, 5)}",
                user=f"user-{rng.integers(0, 5)}",
                received_ns=int(rng.integers(1, 10**15)),
                hashes=rng.integers(0, 2**63, int(rng.integers(0, 9)), dtype=np.uint64),
            ),
        ),
        endpoints(
            count,
            constants=EngineColumns(constants) if rng.random() < 0.5 else None,
            in_flight=whole(50),
            pending_tokens=whole(50_000),
            context_tokens=whole(400_000),
            waiting=sometimes_unknown(30.0),
            running=sometimes_unknown(200.0),
            kv_usage_ratio=sometimes_unknown(1.0),
            foreign_requests=sometimes_unknown(20.0),
            metrics_age_s=(rng.random(count) * 5.0).tolist(),
            labels=[{"zone": zone} for zone in rng.choice(["a", "b"], count).tolist()],
            attributes={"custom": sometimes_unknown(1.0)},
        ),
    )


def permuted(case: Case, order: Ints) -> Case:
    """The same state with the endpoints in another order."""
    before = case.request
    now: dict[str, object] = {}
    for one in fields(Endpoints):
        value = getattr(case.endpoints, one.name)
        if one.name == "attributes":
            now[one.name] = {name: column[order] for name, column in value.items()}
        elif isinstance(value, tuple):
            now[one.name] = tuple(value[row] for row in order)
        elif isinstance(value, EngineColumns):
            now[one.name] = EngineColumns(value.rows[:, order])
        elif value is None:
            continue
        else:
            now[one.name] = value[..., order]
    return Case(
        before._replace(
            matched_tokens=before.matched_tokens[order],
            adapter_tier=_in_order(before.adapter_tier, order),
            candidates=_in_order(before.candidates, order),
        ),
        replace(case.endpoints, **now),  # type: ignore[arg-type]
    )


def _in_order(column: NDArray[_Number] | None, order: Ints) -> NDArray[_Number] | None:
    return None if column is None else column[order]
