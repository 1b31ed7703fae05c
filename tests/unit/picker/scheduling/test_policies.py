"""Each policy against worked numbers, a plain-Python oracle, and the rules of the contract."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest

from inferway.picker.scheduling.contracts import Endpoints, Request
from inferway.picker.scheduling.engine_constants import EngineConstants
from inferway.picker.scheduling.marginal_cost import MarginalCost
from inferway.picker.scheduling.registry import POLICIES, policy

DETERMINISTIC = ["marginal-cost", "weighted-sum", "least-request"]


def endpoints(count: int, **columns: list[float]) -> Endpoints:
    """Known and idle unless a column says otherwise."""

    def column(name: str) -> np.ndarray:
        return np.array(columns.get(name, [0.0] * count), dtype=float)

    scraped = [n for n in Endpoints.__dataclass_fields__ if n not in {"load", "ready"}]
    load = [column(name) for name in ("in_flight", "pending_tokens", "context_tokens")]
    return Endpoints(
        load=np.stack([*load, np.ones(count)]),
        ready=np.ones(count, dtype=bool),
        **{name: column(name) for name in scraped},
    )


def request(
    count: int,
    *,
    prompt: float = 1000.0,
    output: float = 200.0,
    matched: list[float] | None = None,
    tiers: list[float] | None = None,
) -> Request:
    return Request(
        prompt_tokens=prompt,
        output_tokens=output,
        priority=0,
        matched_tokens=np.array(matched or [0.0] * count),
        adapter_tier=None if tiers is None else np.array(tiers),
    )


def costs(name: str, req: Request, eps: Endpoints, sequence: int = 0) -> list[float]:
    return policy(name).cost(req, eps, sequence, np.random.default_rng(7)).tolist()


def random_case(rng: np.random.Generator, count: int) -> tuple[Request, Endpoints]:
    def sometimes_unknown(high: float) -> list[float]:
        column = rng.random(count) * high
        column[rng.random(count) < 0.2] = nan
        return column.tolist()

    prompt = float(rng.integers(1, 100_000))
    tiers = rng.integers(0, 4, count).astype(float).tolist() if rng.random() < 0.5 else None
    req = request(
        count,
        prompt=prompt,
        output=float(rng.integers(1, 2000)),
        matched=((prompt - 1.0) * rng.random(count)).tolist(),
        tiers=tiers,
    )
    columns = {
        "in_flight": rng.integers(0, 50, count).astype(float).tolist(),
        "pending_tokens": rng.integers(0, 50_000, count).astype(float).tolist(),
        "context_tokens": rng.integers(0, 400_000, count).astype(float).tolist(),
        "waiting": sometimes_unknown(30.0),
        "running": sometimes_unknown(200.0),
        "kv_usage_ratio": sometimes_unknown(1.0),
        "foreign_requests": sometimes_unknown(20.0),
    }
    return req, endpoints(count, **columns)


def marginal_cost_oracle(req: Request, eps: Endpoints) -> list[float]:
    found = []
    for i in range(len(eps)):
        length, uncached = req.prompt_tokens, req.prompt_tokens - req.matched_tokens[i]
        own = uncached / 31_000 + 1.3e-9 * uncached * (length - uncached / 2)
        wait = eps.pending_tokens[i] / 31_000
        itl = 7.7e-3 + 76e-9 * eps.context_tokens[i] + 8e-6 * eps.in_flight[i]
        cost = 4 * (wait + own) + req.output_tokens * itl + eps.in_flight[i] * own
        if req.adapter_tier is not None:
            cost += {0: 0.0, 1: 0.02, 2: 0.04, 3: 5.0}[int(req.adapter_tier[i])]
        foreign, usage = eps.foreign_requests[i], eps.kv_usage_ratio[i]
        strangers = 8.0 if isnan(foreign) else max(0.0, foreign - 4)
        cost += strangers * (4 * 1000 / 31_000 + 200 * (8e-6 + 76e-9 * 1200))
        usage = 0.9 if isnan(usage) else min(usage, 0.99)
        cost += max(0.0, usage - 0.8) / (1 - usage)
        found.append(cost)
    return found


def weighted_sum_oracle(req: Request, eps: Endpoints) -> list[float]:
    known = [w for w in eps.waiting if not isnan(w)]
    found = []
    for i in range(len(eps)):
        if isnan(eps.waiting[i]):
            queue = 0.0
        elif max(known) == min(known):
            queue = 1.0
        else:
            queue = (max(known) - eps.waiting[i]) / (max(known) - min(known))
        usage = eps.kv_usage_ratio[i]
        cache = 0.0 if isnan(usage) else 1.0 - usage
        found.append(-(2 * queue + 2 * cache + 3 * req.matched_tokens[i] / req.prompt_tokens))
    return found


@pytest.mark.parametrize(
    ("state", "req", "expected"),
    [
        # Idle, nothing cached: 4·(1000/31000 + 1.3e-9·1000·500) + 200·7.7e-3.
        ({}, {}, 4 * (1000 / 31_000 + 0.00065) + 1.54),
        # 900 of 1000 cached: u = 100.
        ({}, {"matched": [900.0]}, 4 * (100 / 31_000 + 1.3e-9 * 100 * 950) + 1.54),
        # 3100 tokens ahead cost 0.1 s, four times.
        (
            {"pending_tokens": [3100.0]},
            {"matched": [999.0]},
            0.4 + 4 * (1 / 31_000 + 1.3e-6) + 1.54,
        ),
        # Ten decodes: 8 µs each per token, and each is stalled by the prefill.
        (
            {"in_flight": [10.0]},
            {},
            (4 + 10) * (1000 / 31_000 + 0.00065) + 200 * (7.7e-3 + 80e-6),
        ),
        # 100,000 context tokens: 7.6 ms per token.
        ({"context_tokens": [100_000.0]}, {"output": 10.0}, 4 * 0.0329080645 + 10 * 15.3e-3),
    ],
)
def test_marginal_cost_worked_numbers(
    state: dict[str, list[float]], req: dict[str, object], expected: float
) -> None:
    found = costs("marginal-cost", request(1, **req), endpoints(1, **state))  # type: ignore[arg-type]
    assert found == [pytest.approx(expected, rel=1e-6)]


def test_marginal_cost_uses_the_constants_it_is_given() -> None:
    slow = MarginalCost(EngineConstants(prefill_tokens_per_s=100.0, attention_s=0.0, step_s=0.0))
    found = slow.cost(request(1), endpoints(1), 0, np.random.default_rng(1))
    assert found.tolist() == [pytest.approx(4 * 10.0)]


def test_marginal_cost_prices_adapters_by_tier() -> None:
    found = costs("marginal-cost", request(4, tiers=[0.0, 1.0, 2.0, 3.0]), endpoints(4))
    assert np.diff(found).tolist() == pytest.approx([0.02, 0.02, 4.96])


def test_marginal_cost_guard_ignores_small_differences_and_prices_strangers() -> None:
    found = costs("marginal-cost", request(3), endpoints(3, foreign_requests=[0.0, 4.0, 40.0]))
    assert found[0] == found[1]
    assert found[2] - found[0] == pytest.approx(36 * (4000 / 31_000 + 200 * (8e-6 + 91.2e-6)))


def test_marginal_cost_guard_prices_a_nearly_full_cache() -> None:
    usage = [0.0, 0.8, 0.9, 0.95, 1.0]
    found = costs("marginal-cost", request(5), endpoints(5, kv_usage_ratio=usage))
    assert [round(c - found[0], 6) for c in found] == [0.0, 0.0, 1.0, 3.0, 19.0]


@pytest.mark.parametrize(
    ("waiting", "usage", "matched", "expected"),
    [
        ([0.0, 0.0], [0.0, 0.5], [0.0, 0.0], [-4.0, -3.0]),
        ([0.0, 10.0], [0.0, 0.0], [0.0, 500.0], [-4.0, -3.5]),
        ([2.0, 4.0, 3.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-2.0, 0.0, -1.0]),
        ([nan, 5.0], [nan, 0.25], [1000.0, 0.0], [-3.0, -3.5]),
        ([nan, nan], [nan, nan], [0.0, 250.0], [0.0, -0.75]),
    ],
)
def test_weighted_sum_worked_numbers(
    waiting: list[float], usage: list[float], matched: list[float], expected: list[float]
) -> None:
    eps = endpoints(len(waiting), waiting=waiting, kv_usage_ratio=usage)
    req = request(len(waiting), matched=matched)
    assert costs("weighted-sum", req, eps) == pytest.approx(expected)


def test_least_request_costs_are_the_requests_in_flight() -> None:
    eps = endpoints(3, in_flight=[2.0, 0.0, 7.0])
    found = policy("least-request").cost(request(3), eps, 0, np.random.default_rng(1))
    assert found.tolist() == [2.0, 0.0, 7.0]
    assert found is not eps.in_flight


@pytest.mark.parametrize("count", [1, 2, 7])
def test_round_robin_visits_every_endpoint_in_turn(count: int) -> None:
    firsts = [
        np.argmin(costs("round-robin", request(count), endpoints(count), s)) for s in range(14)
    ]
    assert firsts == [s % count for s in range(14)]
    assert sorted(costs("round-robin", request(count), endpoints(count), 5)) == list(range(count))


def test_random_is_uniform() -> None:
    rng, chosen = np.random.default_rng(3), np.zeros(4)
    for _ in range(4000):
        chosen[policy("random").cost(request(4), endpoints(4), 0, rng).argmin()] += 1
    assert np.all(np.abs(chosen - 1000) < 4 * np.sqrt(750))


@pytest.mark.parametrize("count", [1, 2, 5, 16, 40])
def test_costs_equal_a_plain_python_oracle(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(50):
        req, eps = random_case(rng, count)
        assert costs("marginal-cost", req, eps) == pytest.approx(marginal_cost_oracle(req, eps))
        assert costs("weighted-sum", req, eps) == pytest.approx(weighted_sum_oracle(req, eps))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_costs_do_not_depend_on_the_order_of_endpoints(name: str) -> None:
    rng = np.random.default_rng(11)
    for _ in range(50):
        req, eps = random_case(rng, 9)
        order = rng.permutation(9)
        shuffled = Endpoints(
            **{n: getattr(eps, n)[..., order] for n in Endpoints.__dataclass_fields__}
        )
        moved = Request(
            req.prompt_tokens,
            req.output_tokens,
            0,
            req.matched_tokens[order],
            None if req.adapter_tier is None else req.adapter_tier[order],
        )
        assert costs(name, moved, shuffled) == pytest.approx(np.array(costs(name, req, eps))[order])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("column", ["waiting", "running", "kv_usage_ratio", "foreign_requests"])
def test_an_unknown_value_never_improves_a_cost(name: str, column: str) -> None:
    """Compared with readings up to the worst reasonable one."""
    worst = {"waiting": 12.0, "running": 300.0, "kv_usage_ratio": 0.9, "foreign_requests": 12.0}
    rng = np.random.default_rng(5)
    for _ in range(50):
        req, eps = random_case(rng, 6)
        values = {n: getattr(eps, n).copy() for n in Endpoints.__dataclass_fields__}
        values[column] = rng.random(6) * worst[column]
        known = costs(name, req, Endpoints(**values))
        values[column] = values[column].copy()
        values[column][2] = nan
        assert costs(name, req, Endpoints(**values))[2] >= known[2] - 1e-12


@pytest.mark.parametrize("name", POLICIES)
def test_policies_answer_finite_costs_and_change_nothing(name: str) -> None:
    rng = np.random.default_rng(13)
    for count in (1, 3, 30):
        req, eps = random_case(rng, count)
        before = {n: getattr(eps, n).copy() for n in Endpoints.__dataclass_fields__}
        matched = req.matched_tokens.copy()
        found = policy(name).cost(req, eps, 4, rng)
        assert found.shape == (count,)
        assert np.isfinite(found).all()
        assert np.array_equal(req.matched_tokens, matched)
        for column, values in before.items():
            assert np.array_equal(getattr(eps, column), values, equal_nan=column != "ready")


@pytest.mark.parametrize("name", ["marginal-cost", "weighted-sum"])
def test_one_policy_object_follows_changing_scraped_columns(name: str) -> None:
    """What a policy keeps from one Endpoints object must not colour the next one."""
    kept, rng = policy(name), np.random.default_rng(17)
    for _ in range(20):
        req, eps = random_case(rng, 5)
        assert kept.cost(req, eps, 0, rng).tolist() == costs(name, req, eps)


def test_registry_names_the_policies_there_are() -> None:
    assert {name: made().name for name, made in POLICIES.items()} == {n: n for n in POLICIES}
    with pytest.raises(ValueError, match="'best'; known: marginal-cost, weighted-sum"):
        policy("best")
