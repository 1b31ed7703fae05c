"""Each policy against worked numbers, a plain-Python oracle, and the rules of the contract."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest

from inferway.picker.scheduling.contracts import Cost, Endpoints, Request
from inferway.picker.scheduling.engine_constants import (
    SHIPPED,
    EngineColumns,
    EngineConstants,
    column,
)
from inferway.picker.scheduling.marginal_cost import MarginalCost
from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.registry import PLUGINS, POLICIES, profile_of
from inferway.testing import Asked, Case, endpoints, permuted, random_case, request

RANDOM = {"power-of-two", "random"}
DETERMINISTIC = [name for name in POLICIES if name not in {*RANDOM, "round-robin"}]


def plugin(name: str) -> Cost:
    made = PLUGINS[name]()
    assert isinstance(made, Cost)
    return made


def with_constants(eps: Endpoints, constants: list[EngineConstants]) -> Endpoints:
    return replace(eps, constants=EngineColumns.of(constants))


def costs(name: str, req: Request, eps: Endpoints, sequence: int = 0) -> list[float]:
    return plugin(name).cost(req, eps, sequence, np.random.default_rng(7)).tolist()


def rated(policy: str, req: Request, eps: Endpoints) -> list[float]:
    """What the terms of a policy add up to; filters are left out."""
    return profile_of(policy).rate(req, eps, 4, np.random.default_rng(7))[0].tolist()


def marginal_cost_oracle(req: Request, eps: Endpoints) -> list[float]:
    found = []
    for i in range(len(eps)):
        token, pair, first, step, context, sequence = (
            column(SHIPPED) if eps.constants is None else eps.constants.rows[:, i].tolist()
        )
        length, uncached = req.prompt_tokens, req.prompt_tokens - req.matched_tokens[i]
        own = uncached * token + pair * uncached * (length - uncached / 2)
        wait = eps.pending_tokens[i] * token
        itl = step + context * eps.context_tokens[i] + sequence * eps.in_flight[i]
        cost = 4 * (first + wait + own) + req.output_tokens * itl + eps.in_flight[i] * own
        if req.adapter_tier is not None:
            cost += {0: 0.0, 1: 0.02, 2: 0.04, 3: 5.0}[int(req.adapter_tier[i])]
        foreign, usage = eps.foreign_requests[i], eps.kv_usage_ratio[i]
        strangers = 8.0 if isnan(foreign) else max(0.0, foreign - 4)
        cost += strangers * (4 * 1000 * token + 200 * (sequence + context * 1200))
        usage = 0.9 if isnan(usage) else min(usage, 0.99)
        cost += max(0.0, usage - 0.8) / (1 - usage)
        found.append(cost)
    return found


@pytest.mark.parametrize(
    ("state", "req", "expected"),
    [
        # Idle, nothing cached: 4·(0.025 + 1000/31000 + 1.3e-9·1000·500) + 200·7.7e-3.
        ({}, {}, 0.1 + 4 * (1000 / 31_000 + 0.00065) + 1.54),
        # 900 of 1000 cached: u = 100.
        ({}, {"matched_tokens": [900.0]}, 0.1 + 4 * (100 / 31_000 + 1.3e-9 * 100 * 950) + 1.54),
        # 3100 tokens ahead cost 0.1 s, four times.
        (
            {"pending_tokens": [3100.0]},
            {"matched_tokens": [999.0]},
            0.1 + 0.4 + 4 * (1 / 31_000 + 1.3e-6) + 1.54,
        ),
        # Ten decodes: 8 µs each per token, and each is stalled by the prefill.
        (
            {"in_flight": [10.0]},
            {},
            0.1 + (4 + 10) * (1000 / 31_000 + 0.00065) + 200 * (7.7e-3 + 80e-6),
        ),
        # 100,000 context tokens: 7.6 ms per token.
        (
            {"context_tokens": [100_000.0]},
            {"output_tokens": 10.0},
            0.1 + 4 * 0.0329080645 + 10 * 15.3e-3,
        ),
    ],
)
def test_marginal_cost_worked_numbers(
    state: dict[str, list[float]], req: dict[str, object], expected: float
) -> None:
    found = costs("marginal-cost", request(1, **req), endpoints(1, **state))  # type: ignore[arg-type]
    assert found == [pytest.approx(expected, rel=1e-6)]


def test_marginal_cost_uses_the_constants_of_each_endpoint() -> None:
    slow = EngineConstants(prefill_tokens_per_s=100.0, attention_s=0.0, step_s=0.0)
    late = EngineConstants(first_token_s=1.025)
    unlike = with_constants(endpoints(3), [slow, SHIPPED, late])
    assert costs("marginal-cost", request(3), unlike) == [
        pytest.approx(0.1 + 4 * 10.0),
        pytest.approx(0.1 + 4 * (1000 / 31_000 + 0.00065) + 1.54),
        pytest.approx(4.1 + 4 * (1000 / 31_000 + 0.00065) + 1.54),
    ]
    alike = with_constants(endpoints(2), [slow, slow])
    assert costs("marginal-cost", request(2), alike) == [pytest.approx(0.1 + 4 * 10.0)] * 2


@pytest.mark.parametrize("count", [1, 3, 40, 700])
def test_marginal_cost_of_unlike_endpoints_is_that_of_each_alone(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(5):
        case = random_case(rng, count)
        constants = [
            EngineConstants(*(np.array(column(SHIPPED)) * rng.uniform(0.2, 5.0, 6)).tolist())
            for _ in range(count)
        ]
        found = costs("marginal-cost", case.request, with_constants(case.endpoints, constants))
        for row in range(0, count, 7):
            same = with_constants(case.endpoints, [constants[row]] * count)
            alone = costs("marginal-cost", case.request, same)
            assert found[row] == pytest.approx(alone[row], rel=1e-9)


def test_marginal_cost_follows_constants_that_change() -> None:
    cost, rng = plugin("marginal-cost"), np.random.default_rng(1)
    before = cost.cost(request(2), endpoints(2), 0, rng).tolist()
    slower = with_constants(endpoints(2), [SHIPPED, EngineConstants(step_s=1.0)])
    after = cost.cost(request(2), slower, 1, rng).tolist()
    assert after == [pytest.approx(before[0]), pytest.approx(before[1] + 200 * (1.0 - 7.7e-3))]


def test_marginal_cost_prices_adapters_by_tier() -> None:
    found = costs("marginal-cost", request(4, adapter_tier=[0.0, 1.0, 2.0, 3.0]), endpoints(4))
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
        ([nan, 5.0], [nan, 0.25], [999.0, 0.0], [-2.997, -3.5]),
        ([nan, nan], [nan, nan], [0.0, 250.0], [0.0, -0.75]),
    ],
)
def test_reference_default_worked_numbers(
    waiting: list[float], usage: list[float], matched: list[float], expected: list[float]
) -> None:
    """2·queue + 2·cache + 3·prefix."""
    eps = endpoints(len(waiting), waiting=waiting, kv_usage_ratio=usage)
    req = request(len(waiting), matched_tokens=matched)
    assert rated("reference-default", req, eps) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("matched", "pending", "chosen"),
    [
        ([0.0, 0.0, 0.0], [50.0, 10.0, 70.0], 1),  # cold: least prefill ahead
        ([0.0, 950.0, 0.0], [50.0, 100_000.0, 70.0], 1),  # sticky
        ([0.0, 950.0, 0.0], [50.0, 300_000.0, 70.0], 0),  # 18.8 s are too long a wait
        ([0.0, 500.0, 0.0], [50.0, 600.0, 70.0], 0),  # half a prompt is no reason to stay
        ([0.0, 500.0, 0.0], [50.0, 500.0, 70.0], 1),  # though it is that much less to compute
    ],
)
def test_sticky_until_saturated(matched: list[float], pending: list[float], chosen: int) -> None:
    eps, req = endpoints(3, pending_tokens=pending), request(3, matched_tokens=matched)
    profile, rng = profile_of("sticky-until-saturated"), np.random.default_rng(1)
    filtered, _ = profile.filter(req, eps, ())
    found, _ = profile.rate(filtered, eps, 0, rng)
    assert profile.picker.choose(found, filtered.candidates, rng, count=1) == [chosen]


def test_lmetric_is_prefill_ahead_times_requests() -> None:
    eps = endpoints(3, pending_tokens=[0.0, 1000.0, 0.0], in_flight=[0.0, 1.0, 9.0])
    req = request(3, matched_tokens=[0.0, 500.0, 900.0])
    assert costs("lmetric", req, eps) == [1000.0, 1500.0 * 2, 100.0 * 10]


def test_expected_ttft_worked_numbers() -> None:
    eps = endpoints(2, pending_tokens=[0.0, 3100.0])
    req = request(2, matched_tokens=[0.0, 900.0])
    found = costs("expected-ttft", req, eps)
    own = [1000 / 31_000 + 0.00065, 100 / 31_000 + 1.3e-7 * 950]
    assert found == pytest.approx([0.025 + own[0], 0.025 + 0.1 + own[1]])


def test_expected_ttft_with_the_constants_of_each() -> None:
    slow = EngineConstants(prefill_tokens_per_s=100.0, attention_s=0.0, first_token_s=1.0)
    eps = endpoints(2, constants=EngineColumns.of([slow, EngineConstants()]))
    found = costs("expected-ttft", request(2), eps)
    assert found == pytest.approx([11.0, 0.025 + 1000 / 31_000 + 0.00065])


@pytest.mark.parametrize("candidates", [None, [True, False, True, True, False]])
def test_power_of_two_compares_two_that_it_draws(candidates: list[bool] | None) -> None:
    eps = endpoints(5, in_flight=[3.0, 4.0, 5.0, 6.0, 7.0])
    req = request(5, candidates=candidates)
    rng, pairs = np.random.default_rng(1), dict[tuple[int, ...], int]()
    for _ in range(3000):
        found = plugin("power-of-two").cost(req, eps, 0, rng)
        drawn = tuple(np.flatnonzero(found < 1e6).tolist())
        assert [found[row] for row in drawn] == [eps.in_flight[row] for row in drawn]
        pairs[drawn] = pairs.get(drawn, 0) + 1
    among = [row for row in range(5) if candidates is None or candidates[row]]
    possible = len(among) * (len(among) - 1) // 2
    assert sorted(pairs) == [(i, j) for i in among for j in among if i < j]
    expected = 3000 / possible
    assert all(abs(one - expected) < 4 * expected**0.5 for one in pairs.values())


def test_power_of_more_choices_than_there_are_compares_all() -> None:
    found = made(PLUGINS["power-of-two"], {"choices": 16}, name="p")
    assert isinstance(found, Cost)
    eps = endpoints(3, in_flight=[3.0, 1.0, 2.0])
    assert found.cost(request(3), eps, 0, np.random.default_rng(1)).tolist() == [3.0, 1.0, 2.0]
    assert len(found.cost(request(0), endpoints(0), 0, np.random.default_rng(1))) == 0


def asked(count: int, **fields: object) -> Request:
    return request(count, pick=Asked(**fields))  # type: ignore[arg-type]


def test_consistent_hash_moves_only_the_keys_of_who_comes_or_goes() -> None:
    before = endpoints(6)
    after = endpoints(5, addresses=before.addresses[:3] + before.addresses[4:])
    moved = 0
    for number in range(400):
        first = int(np.argmin(costs("consistent-hash", asked(6, session=f"s{number}"), before)))
        then = int(np.argmin(costs("consistent-hash", asked(5, session=f"s{number}"), after)))
        moved += before.addresses[first] != after.addresses[then]
        assert (before.addresses[first] == after.addresses[then]) is (first != 3)
    assert 400 / 6 / 2 < moved < 400 / 6 * 2


def test_consistent_hash_spreads_keys() -> None:
    eps = endpoints(8)
    firsts = [
        int(np.argmin(costs("consistent-hash", asked(8, session=f"user-{n}"), eps)))
        for n in range(1600)
    ]
    assert np.all(np.abs(np.bincount(firsts, minlength=8) - 200) < 4 * (200 * 7 / 8) ** 0.5)


def test_consistent_hash_bounds_the_load_of_each() -> None:
    """Ceil of 1.25 times the mean, the request included: 1.25·(8 + 1)/4 is 2.8, so 3."""
    req = asked(4, session="a")
    order = np.argsort(costs("consistent-hash", req, endpoints(4))).tolist()
    load = [0.0] * 4
    load[order[0]], load[order[1]] = 2.0, 6.0
    assert np.argsort(costs("consistent-hash", req, endpoints(4, in_flight=load))).tolist() == [
        order[0],
        order[2],
        order[3],
        order[1],
    ]
    load[order[0]], load[order[1]] = 3.0, 5.0
    found = costs("consistent-hash", req, endpoints(4, in_flight=load))
    assert np.argsort(found).tolist()[:2] == order[2:]


def test_consistent_hash_by_session_user_or_prefix() -> None:
    eps, rng = endpoints(50), np.random.default_rng(1)
    chain = np.arange(1, 9, dtype=np.uint64) * np.uint64(0x1234_5678_9ABC_DEF1)

    def place(parameters: dict[str, object], **fields: object) -> int:
        found = made(PLUGINS["consistent-hash"], parameters, name="h")  # type: ignore[arg-type]
        assert isinstance(found, Cost)
        return int(found.cost(asked(50, **fields), eps, 0, rng).argmin())

    by_prefix: dict[str, object] = {"key": "prefix", "prefixBlocks": 3}
    assert place({}, session="a", user="x") == place({}, session="a", user="y")
    assert place({}, session="a") != place({}, session="b")
    assert place({"key": "user"}, user="a", session="1") == place({"key": "user"}, user="a")
    assert place(by_prefix, hashes=chain[:3]) == place(by_prefix, hashes=chain)
    assert place(by_prefix, hashes=chain[:2]) != place(by_prefix, hashes=chain)


@pytest.mark.parametrize("key", ["session", "user", "prefix"])
def test_consistent_hash_without_a_key_goes_by_load(key: str) -> None:
    found = made(PLUGINS["consistent-hash"], {"key": key}, name="h")
    assert isinstance(found, Cost)
    eps = endpoints(3, in_flight=[2.0, 0.0, 1.0])
    assert found.cost(asked(3), eps, 0, np.random.default_rng(1)).tolist() == [2.0, 0.0, 1.0]


def test_least_request_costs_are_the_requests_in_flight() -> None:
    eps = endpoints(3, in_flight=[2.0, 0.0, 7.0])
    found = plugin("least-request").cost(request(3), eps, 0, np.random.default_rng(1))
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
        chosen[plugin("random").cost(request(4), endpoints(4), 0, rng).argmin()] += 1
    assert np.all(np.abs(chosen - 1000) < 4 * np.sqrt(750))


@pytest.mark.parametrize("count", [1, 2, 5, 16, 40])
def test_costs_equal_a_plain_python_oracle(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(50):
        req, eps = random_case(rng, count)
        cost = costs("marginal-cost", req, eps)
        assert cost == pytest.approx(marginal_cost_oracle(req, eps))
        assert sum(MarginalCost().parts(req, eps).values()) == pytest.approx(np.array(cost))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_costs_do_not_depend_on_the_order_of_endpoints(name: str) -> None:
    rng = np.random.default_rng(11)
    for _ in range(50):
        req, eps = random_case(rng, 9)
        order = rng.permutation(9)
        moved = permuted(Case(req, eps), order)
        assert rated(name, *moved) == pytest.approx(np.array(rated(name, req, eps))[order])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("column", ["waiting", "running", "kv_usage_ratio", "foreign_requests"])
def test_an_unknown_value_never_improves_a_cost(name: str, column: str) -> None:
    """Compared with readings up to the worst reasonable one."""
    worst = {"waiting": 12.0, "running": 300.0, "kv_usage_ratio": 0.9, "foreign_requests": 12.0}
    rng = np.random.default_rng(5)
    for _ in range(50):
        req, eps = random_case(rng, 6)
        values = rng.random(6) * worst[column]
        known = rated(name, req, replace(eps, **{column: values}))
        values = values.copy()
        values[2] = nan
        assert rated(name, req, replace(eps, **{column: values}))[2] >= known[2] - 1e-12


@pytest.mark.parametrize("name", POLICIES)
def test_policies_answer_finite_costs(name: str) -> None:
    rng = np.random.default_rng(13)
    for count in (1, 3, 30):
        found, _ = profile_of(name).rate(*random_case(rng, count), 4, rng)
        assert found.shape == (count,)
        assert np.isfinite(found).all()


def test_registry_names_the_policies_there_are() -> None:
    assert [profile_of(name).name for name in POLICIES] == list(POLICIES)
    with pytest.raises(ValueError, match="'best'; known: marginal-cost, reference-default"):
        profile_of("best")
