"""Whole decisions: what is chosen, what is charged, what the next request sees."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from inferway.picker.datalayer.engines import LoraReading, Reading
from inferway.picker.datalayer.models import Served
from inferway.picker.datalayer.readiness import Unready
from inferway.picker.scheduling.decide import Decision, NoEndpoint, PoolScheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.datalayer.state import DataLayer

    Make = Callable[..., PoolScheduler]
    MakePick = Callable[..., object]


def decide(scheduler: PoolScheduler, pick: object, **options: object) -> Decision:
    decision = scheduler.decide(pick, filter_id=1, now_s=10.0, **options)  # type: ignore[arg-type]
    assert isinstance(decision, Decision)
    return decision


def addresses(*last: int) -> list[str]:
    return [f"10.0.0.{n}:8000" for n in last]


@pytest.mark.parametrize("policy_name", ["least-request", "marginal-cost", "round-robin"])
@pytest.mark.parametrize("count", [1, 3, 8, 40])
def test_a_burst_of_identical_requests_spreads_evenly(
    scheduler: Make, pick: MakePick, policy_name: str, count: int
) -> None:
    made = scheduler(count, policy_name)
    chosen = Counter(dict.fromkeys(range(count), 0))
    for _ in range(count * 5 + 2):
        chosen[decide(made, pick(prompt_bytes=4000)).row] += 1
    assert max(chosen.values()) - min(chosen.values()) <= 1


def test_a_decision_charges_what_it_says(scheduler: Make, pick: MakePick, layer: DataLayer) -> None:
    made = scheduler(2)
    decision = decide(made, pick(prompt_bytes=4000))
    assert (decision.charged_uncached, decision.charged_context) == (1000, 1200)
    table = layer.pools["ns/pool"].table
    assert table.accounting(decision.row) == (1.0, 1000.0, 1200.0)
    assert table.accounting(1 - decision.row) == (0.0, 0.0, 0.0)
    assert table.picks(decision.row) == 1
    layer.in_flight.first(1, 1)
    assert table.accounting(decision.row) == (1.0, 0.0, 1200.0)
    layer.in_flight.done(1, 1)
    assert table.accounting(decision.row) == (0.0, 0.0, 0.0)


def test_the_answer_names_fallbacks_best_first(scheduler: Make, pick: MakePick) -> None:
    made = scheduler(6, "round-robin")
    assert decide(made, pick()).endpoints == ",".join(addresses(1, 2, 3, 4))
    assert decide(made, pick()).endpoints == ",".join(addresses(2, 3, 4, 5))
    assert decide(scheduler(1), pick()).endpoints == "10.0.0.1:8000"


def test_a_prompt_returns_to_the_endpoint_that_has_its_beginning(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(4)
    home = decide(made, pick("abcdefgh" * 8)).row
    layer.in_flight.drop_filter(1)
    for tail in "xyz" * 3:
        assert decide(made, pick("abcdefgh" * 8 + tail)).row == home
        layer.in_flight.drop_filter(1)


def test_a_prompt_leaves_an_endpoint_that_is_much_busier(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(2)
    home = decide(made, pick("ab")).row
    table = layer.pools["ns/pool"].table
    for _ in range(50):
        table.charge(home, 4000, 4000)
    assert decide(made, pick("ab")).row == 1 - home


def test_a_cached_beginning_is_not_charged_again(scheduler: Make, pick: MakePick) -> None:
    made = scheduler(1)
    assert decide(made, pick("abcd")).charged_uncached == 256
    again = decide(made, pick("abcdef"))
    assert again.charged_uncached == 384 - round(256 * 383 / 384)
    assert again.charged_context == 384 + 200
    assert decide(made, pick("abcdef")).charged_uncached == 1


def test_another_model_does_not_share_the_cache(scheduler: Make, pick: MakePick) -> None:
    made = scheduler(1)
    decide(made, pick("abcd"))
    assert decide(made, pick("abcd", model="qwen-32b")).charged_uncached == 256
    assert decide(made, pick("abcd"), model="a-rewritten-name").charged_uncached == 256


def test_the_client_limit_caps_the_expected_output(scheduler: Make, pick: MakePick) -> None:
    made = scheduler(1)
    assert decide(made, pick(prompt_bytes=400, max_tokens=16)).charged_context == 116
    assert decide(made, pick(prompt_bytes=400, max_tokens=5000)).charged_context == 300


def test_usage_teaches_what_a_request_is(scheduler: Make, pick: MakePick, layer: DataLayer) -> None:
    made = scheduler(1)
    for _ in range(400):
        layer.observe_usage(
            "llama", end=0, prompt_bytes=8000, prompt_tokens=1000, completion_tokens=50
        )
    decision = decide(made, pick(prompt_bytes=8000))
    assert (decision.charged_uncached, decision.charged_context) == (1000, 1050)


def test_answers_that_broke_teach_nothing(layer: DataLayer) -> None:
    layer.observe_usage("m", end=1, prompt_bytes=8000, prompt_tokens=1000, completion_tokens=5)
    assert layer.estimates.of("m").output_tokens == 200.0


def test_an_empty_prompt_is_charged_one_token(scheduler: Make, pick: MakePick) -> None:
    assert decide(scheduler(2), pick()).charged_uncached == 1


def test_charges_fit_the_protocol(scheduler: Make, pick: MakePick, layer: DataLayer) -> None:
    made = scheduler(1)
    for _ in range(400):
        layer.observe_usage(
            "llama", end=0, prompt_bytes=600, prompt_tokens=1000, completion_tokens=1
        )
    decision = decide(made, pick(prompt_bytes=2**32 - 1))
    assert decision.charged_uncached == decision.charged_context == 2**32 - 1


def test_no_endpoints(scheduler: Make, pick: MakePick, layer: DataLayer) -> None:
    empty = scheduler(0)
    assert empty.decide(pick(), filter_id=1, now_s=0.0) is NoEndpoint.EMPTY  # type: ignore[arg-type]
    made = scheduler(2)
    for row in (0, 1):
        layer.pools["ns/pool"].table.set_unready(row, Unready.CHECKS, True)
    assert made.decide(pick(), filter_id=1, now_s=0.0) is NoEndpoint.NONE_READY  # type: ignore[arg-type]
    assert len(layer.in_flight) == 0


def test_readiness_takes_effect_at_once(scheduler: Make, pick: MakePick, layer: DataLayer) -> None:
    made = scheduler(3)
    decide(made, pick())
    layer.pools["ns/pool"].table.set_unready(0, Unready.CHECKS, True)
    rows = {decide(made, pick()).row for _ in range(6)}
    assert rows == {1, 2}
    layer.pools["ns/pool"].table.set_unready(0, Unready.CHECKS, False)
    assert 0 in {decide(made, pick()).row for _ in range(3)}


def test_only_endpoints_that_list_the_model_are_asked(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(3)
    layer.models("10.0.0.1:8000", Served(("llama",)))
    layer.models("10.0.0.2:8000", Served(("llama", "tuned"), ("tuned",)))
    assert {decide(made, pick(model="tuned")).row for _ in range(6)} == {1, 2}
    layer.models("10.0.0.3:8000", Served(("llama",)))
    assert {decide(made, pick(model="tuned")).row for _ in range(6)} == {1}
    assert {decide(made, pick(model="nobody")).row for _ in range(12)} == {0, 1, 2}


def test_a_model_whose_only_server_is_not_ready_goes_to_one_that_is(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(2)
    layer.models("10.0.0.1:8000", Served(("tuned",)))
    layer.models("10.0.0.2:8000", Served(("llama",)))
    layer.pools["ns/pool"].table.set_unready(0, Unready.CHECKS, True)
    assert decide(made, pick(model="tuned")).row == 1


def test_knows_a_model_only_when_everyone_has_told(scheduler: Make, layer: DataLayer) -> None:
    made = scheduler(2)
    assert made.knows("llama") is None
    layer.models("10.0.0.1:8000", Served(("llama",)))
    assert made.knows("llama") is True
    assert made.knows("qwen") is None
    layer.reachable("10.0.0.2:8000", False)
    assert made.knows("qwen") is False
    layer.reachable("10.0.0.2:8000", True)
    layer.models("10.0.0.2:8000", Served(("qwen",)))
    assert made.knows("qwen") is True
    assert made.knows("gpt") is False


def test_an_adapter_stays_where_it_is_loaded(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(3)
    adapters = tuple(f"a{i}" for i in range(9))
    for address in addresses(1, 2, 3):
        layer.models(address, Served(("llama", *adapters), adapters))
        lora = LoraReading(frozenset(), frozenset(), 3)
        reading = Reading(waiting=0.0, running=0.0, kv_usage_ratio=0.0, lora=lora)
        layer.scraped(address, reading, 0.0, 1.0)
    homes = {a: decide(made, pick(prompt_bytes=400, model=a)).row for a in adapters}
    assert Counter(homes.values()) == {0: 3, 1: 3, 2: 3}
    for stream in range(1, 10):
        layer.in_flight.done(1, stream)
    for _ in range(3):
        for adapter, home in homes.items():
            decision = decide(made, pick(prompt_bytes=400, model=adapter))
            assert decision.row == home
            layer.in_flight.drop_filter(1)


def test_strangers_on_an_engine_send_requests_elsewhere(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(2)
    for address, waiting in zip(addresses(1, 2), (60.0, 0.0), strict=True):
        reading = Reading(waiting=waiting, running=4.0, kv_usage_ratio=0.2)
        layer.scraped(address, reading, 0.0, 1.0)
    assert {decide(made, pick(prompt_bytes=4000)).row for _ in range(10)} == {1}


def test_our_own_load_is_not_mistaken_for_strangers(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made = scheduler(2, "marginal-cost")
    for _ in range(100):
        decide(made, pick(prompt_bytes=400))
    for address in addresses(1, 2):
        own = layer.own_requests(address)
        assert own == 50.0
        layer.scraped(address, Reading(waiting=10.0, running=40.0, kv_usage_ratio=0.2), own, 1.0)
    assert layer.pools["ns/pool"].table.view().foreign_requests.tolist() == [0.0, 0.0]


def test_weighing_changes_nothing_and_placing_is_the_rest_of_a_decision(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made, table = scheduler(3), layer.pools["ns/pool"].table
    asked = pick("ab")
    first = made.weigh(asked, 10.0, 5)  # type: ignore[arg-type]
    assert made.weigh(asked, 10.0, 5).costs.tolist() == first.costs.tolist()  # type: ignore[arg-type]
    assert (first.request.priority, first.request.model, first.removals) == (5, "llama", ())
    assert first.request.pick is asked
    assert [table.in_flight(row) for row in range(3)] == [0.0, 0.0, 0.0]
    rows = made.choose(first)
    placed = made.place(first, rows, 1)
    assert (placed.row, placed.charged_uncached) == (rows[0], 128)
    assert table.in_flight(rows[0]) == 1.0


def test_a_weighed_request_tells_who_was_dropped_by_what(
    scheduler: Make, pick: MakePick, layer: DataLayer
) -> None:
    made, table = scheduler(4, "least-request"), layer.pools["ns/pool"].table
    for address, models in zip(table.addresses, ("a", "a", "b", "b"), strict=True):
        layer.models(address, Served((models,)))
    table.set_unready(0, Unready.CHECKS, True)
    weighed = made.weigh(pick(model="a"), 10.0)  # type: ignore[arg-type]
    assert [(removal.by, removal.keep.tolist()) for removal in weighed.removals] == [
        ("health checks fail", [False, True, True, True]),
        ("does not serve the model", [True, True, False, False]),
    ]
    assert weighed.candidates is not None
    assert weighed.candidates.tolist() == [False, True, False, False]
    # Whoever lists the model is gone: the others may know it too.
    table.set_unready(1, Unready.CHECKS, True)
    weighed = made.weigh(pick(model="a"), 10.0)  # type: ignore[arg-type]
    assert [removal.by for removal in weighed.removals] == ["health checks fail"]
