"""Every scorer, filter and cost equals a plain-Python loop over endpoints, in any state."""

from __future__ import annotations

from math import ceil, isnan
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway._native import hash_seed
from inferway.picker.scheduling.contracts import Cost, Filter, Learns, Scorer
from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.registry import PLUGINS
from inferway.testing import Asked, endpoints, random_case, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from inferway.picker.scheduling.contracts import Endpoints, Plugin, Request

    Oracle = Callable[[Request, Endpoints, int], float]

COUNTS = (1, 2, 5, 16, 40)
LABELS = (
    {},
    {"tier": "gold"},
    {"tier": "tin", "len": "0-4000"},
    {"len": "2000-90000"},
    {"len": "x"},
)
MASK = 2**64 - 1


def among(asked: Request, state: Endpoints) -> list[int]:
    """Rows of candidates."""
    return [i for i in range(len(state)) if asked.candidates is None or asked.candidates[i]]


def states(count: int, tries: int = 40) -> Iterator[tuple[Request, Endpoints]]:
    rng = np.random.default_rng(count)
    for _ in range(tries):
        case = random_case(rng, count)
        state = endpoints(
            count,
            labels=[LABELS[int(rng.integers(0, len(LABELS)))] for _ in range(count)],
            attributes={"t": [float(x) if x < 80 else np.nan for x in rng.integers(0, 100, count)]},
            **{
                name: getattr(case.endpoints, name)
                for name in ("in_flight", "pending_tokens", "context_tokens", "waiting")
            },
            running=case.endpoints.running,
            kv_usage_ratio=case.endpoints.kv_usage_ratio,
            constants=case.endpoints.constants,
        )
        candidates = rng.random(count) < 0.7 if rng.random() < 0.6 else None
        if candidates is not None and not candidates.any():
            candidates = None
        pick = Asked(
            stream=int(rng.integers(1, 2**40)),
            headers={"x-tier": ("gold", "")[int(rng.integers(0, 2))]},
            session=("", "a", "b")[int(rng.integers(0, 3))],
            hashes=rng.integers(0, 2**63, int(rng.integers(0, 6))).astype(np.uint64),
        )
        matched = case.request.matched_tokens * (rng.random(count) < 0.5)
        if rng.random() < 0.3:
            matched = matched * 0.0
        yield case.request._replace(candidates=candidates, pick=pick, matched_tokens=matched), state


def scale(values: Sequence[float], rows: list[int], i: int) -> float:
    known = [values[k] for k in rows if not isnan(values[k])]
    if isnan(values[i]) or not known:
        return 0.0
    if max(known) == min(known):
        return 1.0 if values[i] <= max(known) else 0.0
    return min(1.0, max(0.0, (max(known) - values[i]) / (max(known) - min(known))))


def active(asked: Request, state: Endpoints, i: int) -> float:
    most = max(state.in_flight[k] for k in among(asked, state))
    if state.in_flight[i] <= 3:
        return 1.0
    return max(0.0, (most - state.in_flight[i]) / most) * 0.8 if most > 3 else 0.0


def by_range(asked: Request, state: Endpoints, i: int) -> float:
    try:
        low, high = map(int, state.labels[i].get("len", "").split("-"))
    except ValueError:
        return 0.5
    length, width = asked.prompt_tokens, high - low
    if low <= length <= high:
        return 0.3 + 0.7 * (0.7 / (1 + width / 10_000) + 0.3 * (high - length) / width)
    return 0.3 / (1 + max(low - length, length - high) / 1000)


def prefix(asked: Request, state: Endpoints, i: int) -> float:
    matched = asked.matched_tokens[i]
    return 0.6 * matched / asked.prompt_tokens + 0.4 * min(1.0, matched / 8192) ** 2


def fixed(asked: Request, state: Endpoints, i: int) -> float:
    value = state.attributes["t"][i]
    return 0.0 if isnan(value) else min(1.0, max(0.0, (value - 20) / 40))


def token_load(asked: Request, state: Endpoints, i: int) -> float:
    tokens = state.pending_tokens[i] + asked.prompt_tokens - asked.matched_tokens[i]
    return 1 - min(tokens, 60_000) / 60_000


def load_aware(asked: Request, state: Endpoints, i: int) -> float:
    waiting = state.waiting[i]
    return 0.0 if isnan(waiting) else 0.5 * (1 - min(waiting, 20) / 20)


def lora(asked: Request, state: Endpoints, i: int) -> float:
    if asked.adapter_tier is None:
        return 1.0
    return {0: 1.0, 1: 0.8, 2: 0.6, 3: 0.0}[int(asked.adapter_tier[i])]


SCORERS: list[tuple[str, dict[str, object], Oracle]] = [
    ("queue-scorer", {}, lambda a, s, i: scale(s.waiting.tolist(), among(a, s), i)),
    ("running-requests-size-scorer", {}, lambda a, s, i: scale(s.running.tolist(), among(a, s), i)),
    (
        "kv-cache-utilization-scorer",
        {},
        lambda a, s, i: 0.0 if isnan(s.kv_usage_ratio[i]) else 1 - s.kv_usage_ratio[i],
    ),
    ("lora-affinity-scorer", {}, lora),
    ("prefix-cache-scorer", {"matchLengthWeight": 0.4}, prefix),
    ("token-load-scorer", {"queueThresholdTokens": 60_000}, token_load),
    ("active-request-scorer", {"idleThreshold": 3, "maxBusyScore": 0.8}, active),
    ("load-aware-scorer", {"threshold": 20}, load_aware),
    ("context-length-aware", {"label": "len"}, by_range),
    (
        "header-label-affinity-scorer",
        {"headerName": "x-tier", "labelKey": "tier"},
        lambda a, s, i: float(s.labels[i].get("tier") == a.pick.headers["x-tier"]),
    ),
    (
        "endpoint-attribute-scorer",
        {"attributeKey": "t", "algorithm": {"type": "linear_lower"}},
        lambda a, s, i: scale(s.attributes["t"].tolist(), among(a, s), i),
    ),
    (
        "endpoint-attribute-scorer",
        {
            "attributeKey": "t",
            "algorithm": {
                "type": "linear_higher",
                "normalization": {"fixedRange": {"min": 20, "max": 60}},
            },
        },
        fixed,
    ),
]


def plugin(name: str, parameters: dict[str, object]) -> Plugin:
    return made(PLUGINS[name], parameters, name=name)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("name", "parameters", "oracle"), SCORERS)
def test_scores(name: str, parameters: dict[str, object], oracle: Oracle, count: int) -> None:
    kept = plugin(name, parameters)
    assert isinstance(kept, Scorer)
    for asked, state in states(count):
        expected = [oracle(asked, state, i) for i in range(count)]
        assert kept.score(asked, state).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", COUNTS)
def test_no_hit_lru(count: int) -> None:
    """The oracle keeps every use, and looks at all of them."""
    rng, used = np.random.default_rng(count), list[str]()
    kept = plugin("no-hit-lru-scorer", {})
    assert isinstance(kept, Scorer)
    assert isinstance(kept, Learns)
    for asked, state in states(count, tries=80):
        rows = among(asked, state)
        last = {address: number for number, address in enumerate(used, 1)}
        ages = [last.get(address, 0) for address in state.addresses]
        cached = any(asked.matched_tokens[k] > 0 for k in rows)
        for i in rows:
            earlier = sum(ages[k] < ages[i] for k in rows)
            expected = 1.0 if not ages[i] or len(rows) == 1 else 1 - earlier / (len(rows) - 1)
            score = kept.score(asked, state).tolist()[i]
            assert score == pytest.approx(0.5 if cached else expected)
        row = int(rng.choice(rows))
        kept.placed(asked, state, row)
        if not cached:
            used.append(state.addresses[row])


def lmetric(asked: Request, state: Endpoints, i: int) -> float:
    tokens = state.pending_tokens[i] + asked.prompt_tokens - asked.matched_tokens[i]
    return tokens * (state.in_flight[i] + 1)


def expected_ttft(asked: Request, state: Endpoints, i: int) -> float:
    u, length = asked.prompt_tokens - asked.matched_tokens[i], asked.prompt_tokens
    if state.constants is None:
        return 0.025 + (state.pending_tokens[i] + u) / 31_000 + 1.3e-9 * u * (length - u / 2)
    token_s, pair_s, first_s = (float(state.constants.rows[row, i]) for row in range(3))
    return first_s + (state.pending_tokens[i] + u) * token_s + pair_s * u * (length - u / 2)


def hashed(asked: Request, state: Endpoints, i: int) -> float:
    if not asked.pick.session:
        return float(state.in_flight[i])
    rows, count, mixed = among(asked, state), len(state), list[int]()
    for address in state.addresses:
        value = hash_seed(address) ^ hash_seed(asked.pick.session)
        for _ in range(2):
            value = ((value ^ (value >> 32)) * 0x9E37_79B9_7F4A_7C15) & MASK
        mixed.append(value ^ (value >> 32))
    rank = sum(other > mixed[i] for other in mixed)
    load = sum(state.in_flight[k] for k in rows)
    return rank + count * (state.in_flight[i] >= ceil(1.25 * (load + 1) / len(rows)))


COSTS: list[tuple[str, Oracle]] = [
    ("lmetric", lmetric),
    ("expected-ttft", expected_ttft),
    ("least-request", lambda a, s, i: float(s.in_flight[i])),
    ("consistent-hash", hashed),
]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("name", "oracle"), COSTS)
def test_costs(name: str, oracle: Oracle, count: int) -> None:
    kept, rng = plugin(name, {}), np.random.default_rng(1)
    assert isinstance(kept, Cost)
    for asked, state in states(count):
        expected = [oracle(asked, state, i) for i in range(count)]
        assert kept.cost(asked, state, 3, rng).tolist() == pytest.approx(expected)


def affine(asked: Request, state: Endpoints) -> set[int]:
    rows = among(asked, state)
    sticky = {i for i in range(len(state)) if asked.matched_tokens[i] >= 0.5 * asked.prompt_tokens}
    best, others = sticky & set(rows), set(rows) - sticky
    if not best:
        return set(range(len(state)))
    wait = min(state.pending_tokens[i] for i in best)
    if others and wait - min(state.pending_tokens[i] for i in others) > 20_000:
        return set(range(len(state)))
    return sticky


def within(asked: Request, state: Endpoints) -> set[int]:
    limits = [(state.waiting, 15.0), (state.in_flight, 30.0), (state.kv_usage_ratio, 0.7)]
    good = {i for i in range(len(state)) if all(column[i] <= top for column, top in limits)}
    bad = {i for i in range(len(state)) if any(column[i] > top for column, top in limits)}
    return good if good & set(among(asked, state)) else set(range(len(state))) - bad


def threshold(asked: Request, state: Endpoints) -> set[int]:
    values = state.attributes["t"]
    return {i for i in range(len(state)) if isnan(values[i]) or values[i] < 40}


FILTERS: list[tuple[str, dict[str, object], Callable[[Request, Endpoints], set[int]]]] = [
    (
        "prefix-cache-affinity-filter",
        {"affinityThreshold": 0.5, "maxTTFTPenaltyMs": 20_000, "peakPrefillThroughput": 1000},
        affine,
    ),
    (
        "utilization-filter",
        {
            "conditions": [
                {"metric": "waiting-queue", "maxValue": 15},
                {"metric": "active-requests", "maxValue": 30},
                {"metric": "kv-cache-utilization", "maxValue": 0.7},
            ]
        },
        within,
    ),
    (
        "endpoint-attribute-filter",
        {"attribute": "t", "algorithm": {"threshold": {"operator": "<", "value": 40}}},
        threshold,
    ),
    (
        "by-label",
        {"label": "tier", "validValues": ["gold"], "allowsNoLabel": True},
        lambda a, s: {i for i in range(len(s)) if s.labels[i].get("tier", "gold") == "gold"},
    ),
]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("name", "parameters", "oracle"), FILTERS)
def test_filters(
    name: str,
    parameters: dict[str, object],
    oracle: Callable[[Request, Endpoints], set[int]],
    count: int,
) -> None:
    kept = plugin(name, parameters)
    assert isinstance(kept, Filter)
    for asked, state in states(count):
        assert set(np.flatnonzero(kept.keep(asked, state)).tolist()) == oracle(asked, state)


def test_sessions_are_those_of_a_table_with_every_use() -> None:
    rng, table = np.random.default_rng(3), dict[str, tuple[str, int]]()
    kept = plugin(
        "session-affinity-scorer",
        {"strategy": "session_id", "sessionIdConfig": {"evictionTtlSeconds": 5}},
    )
    assert isinstance(kept, Scorer)
    assert isinstance(kept, Learns)
    state, now_ns = endpoints(4), 0
    for _ in range(2000):
        now_ns += int(rng.integers(0, 800_000_000))
        session = f"s{rng.integers(0, 12)}"
        asked = request(4, pick=Asked(session=session, received_ns=now_ns))
        address, used_ns = table.get(session, ("", 0))
        alive = address and now_ns - used_ns <= 5_000_000_000
        expected = [float(bool(alive) and one == address) for one in state.addresses]
        assert kept.score(asked, state).tolist() == expected
        row = int(rng.integers(0, 4))
        kept.placed(asked, state, row)
        table[session] = (state.addresses[row], now_ns)
