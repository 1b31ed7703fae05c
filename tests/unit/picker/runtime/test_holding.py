"""Requests that wait are answered later, once, on their own connection; or have left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.config import EndpointConfig, PickerConfig, PickerStatus, PoolConfig
from inferway.picker.datalayer.engines import Reading
from inferway.picker.flow_exposition import flow_families
from inferway.picker.flowcontrol.config import (
    BandConfig,
    ConcurrencyConfig,
    FlowConfig,
    SheddingConfig,
    UtilizationConfig,
)
from inferway.picker.flowcontrol.pool_flow import SETTLE_S
from inferway.picker.outcome import Outcome
from inferway.picker.protocol.filter_side import Endpoints, Queued, Reject, done, first, pick
from inferway.picker.scheduling.decide import PoolScheduler
from tests.unit.picker.runtime.room import POOL, A, B, Room, placed, pool, rejected

if TYPE_CHECKING:
    import pytest

OBJECTIVES = {"high": 10, "low": -10}
LONG: dict[str, int] = {"blocks": 80, "prompt_bytes": 32 * 1_024, "seed": 7}  # 80 whole blocks


def flow(requests_max: int = 1, **more: object) -> FlowConfig:
    """So many requests at once per endpoint."""
    settings = {"detector": ConcurrencyConfig(requests_max=requests_max), **more}
    return FlowConfig.model_validate(settings)


def room(*addresses: str, config: FlowConfig | None = None) -> Room:
    return Room(narrow(*addresses, config=config))


def narrow(*addresses: str, config: FlowConfig | None = None) -> PoolConfig:
    made = pool(*addresses, **OBJECTIVES)
    return made.model_copy(update={"flow": config or flow()})


def fill(made: Room, *streams: int) -> None:
    for stream in streams:
        assert len(placed(made.say(pick(stream)))) == 1


def streams_of(answers: list[object]) -> list[int]:
    assert all(isinstance(answer, Endpoints) for answer in answers), answers
    return [answer.stream for answer in answers if isinstance(answer, Endpoints)]


def refused(answers: list[object]) -> Reject:
    (answer,) = answers
    assert isinstance(answer, Reject)
    return answer


def test_a_refused_request_is_let_in_as_soon_as_the_queue_has_a_place() -> None:
    made = room(A, config=flow(default_band=BandConfig(requests_max=1)))
    fill(made, 1)
    made.say(pick(2))
    assert rejected(made.say(pick(3, seed=3))).retry_after_ms > 5_000
    made.say(done(1))
    assert made.say(pick(4, seed=3)) == []


def drain_fast(made: Room) -> None:
    """Lets the pool be known to place 100 requests per second."""
    stream = 1_000
    for _ in range(3):
        made.now_s += 1.0
        made.desk.beat()
        for _ in range(100):
            stream += 1
            made.say(pick(stream, seed=stream), done(stream))


def test_the_end_of_a_stream_lets_the_next_one_go() -> None:
    made = room(A)
    fill(made, 1)
    assert made.say(pick(2), pick(3)) == []
    made.now_s += 0.25
    (answer,) = placed(made.say(done(1)))
    assert (answer.stream, answer.queued_us) == (2, 250_000)
    assert made.accounting()[A][0] == 1.0
    assert made.desk.open_streams == 1
    assert streams_of(list(made.say(done(2)))) == [3]
    assert made.say(done(3)) == []
    assert made.accounting() == {}
    assert made.desk.tick_in_s() == float("inf")


def test_an_answer_goes_to_the_connection_that_asked() -> None:
    made = room(A)
    fill(made, 1)
    assert made.say(pick(1), connection=2) == []
    assert made.say(done(1)) == []
    assert streams_of(made.later(2)) == [1]
    assert made.say(done(1), connection=2) == []
    assert made.accounting() == {}


def test_room_goes_to_who_waits_before_who_comes() -> None:
    made = room(A)
    fill(made, 1)
    made.say(pick(2))
    assert streams_of(list(made.say(done(1), pick(3)))) == [2]
    assert streams_of(list(made.say(done(2)))) == [3]


def test_priorities_are_strict() -> None:
    made = room(A, config=flow(sheddable_wait_max_s=1_000.0))
    fill(made, 1)
    for stream, objective in [(2, "low"), (3, ""), (4, "high"), (5, "high")]:
        assert made.say(pick(stream, objective=objective)) == []
    order = []
    for stream in (1, 4, 5, 3):
        order += streams_of(list(made.say(done(stream))))
    assert order == [4, 5, 3, 2]


def test_a_client_that_leaves_frees_its_place_at_once() -> None:
    made = room(A, config=flow(requests_max=1, default_band=BandConfig(requests_max=1)))
    fill(made, 1)
    assert made.say(pick(2)) == []
    assert made.say(done(2, end=2, status=0)) == []
    assert made.say(pick(3)) == []
    assert streams_of(list(made.say(done(1)))) == [3]


def test_a_lost_connection_takes_what_it_asked_along() -> None:
    made = room(A)
    fill(made, 1)
    made.say(pick(1), connection=2)
    made.say(pick(2))
    made.desk.drop(2)
    made.desk.drop(1)
    assert made.desk.tick_in_s() == float("inf")
    made.advance(100.0)
    assert made.later(1) == made.later(2) == []
    assert made.accounting() == {}


def test_a_repetition_keeps_its_place_and_its_time() -> None:
    made = room(A)
    fill(made, 1)
    made.now_s += 30.0
    made.say(pick(2))
    repeated = pick(1, repeated=True, received_ns=int((made.now_s - 29.0) * 1e9))
    made.say(repeated, connection=2)
    assert made.say(done(1)) == []
    assert streams_of(made.later(2)) == [1], "it came first"
    made.say(pick(2, repeated=True, received_ns=int((made.now_s - 55.0) * 1e9)))
    made.advance(4.9)
    assert made.later() == []
    made.advance(0.2)
    assert refused(made.later()).code == "queue_timeout"


def test_other_settings_keep_what_waits() -> None:
    made = room(A, config=flow())
    fill(made, 1)
    made.say(pick(2), pick(3), pick(4))
    made.desk.configure(PickerConfig(version=2, pools=(narrow(A, config=flow(2)),)))
    assert streams_of(made.later()) == [2]
    made.desk.configure(PickerConfig(version=3, pools=(narrow(B, config=flow(1)),)))
    assert streams_of(made.later()) == [3], "its endpoint is gone, so it takes any"
    made.desk.configure(PickerConfig(version=4, pools=()))
    assert refused(made.later()).code == "pool_not_found"
    made.say(done(1), done(2), done(3), done(4))
    assert made.desk.open_streams == 0


def test_what_waits_for_a_pool_that_fails_costs_itself_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = room(A)
    fill(made, 1)
    made.say(pick(2), pick(3))
    whole = PoolScheduler.place
    with monkeypatch.context() as patch:

        def place_and_fail(self: PoolScheduler, *arguments: object) -> None:
            whole(self, *arguments)  # type: ignore[arg-type]
            raise ZeroDivisionError

        patch.setattr(PoolScheduler, "place", place_and_fail)
        answers = made.say(done(1))
    assert [answer.status for answer in answers if isinstance(answer, Reject)] == [500, 500]
    assert made.accounting() == {}
    assert made.count(Outcome.FAILED) == 2
    fill(made, 9)


def test_a_prompt_waits_for_the_endpoint_that_has_it() -> None:
    made = room(A, B)
    (answer,) = placed(made.say(pick(1, **LONG)))
    warm = answer.endpoints[0]
    other = {A: B, B: A}[warm]
    made.say(first(1))
    drain_fast(made)
    assert made.say(pick(2, **LONG)) == [], "it waits, although the other one has room"
    (answer,) = placed(made.say(pick(3, seed=3)))
    assert answer.endpoints[0] == other
    assert streams_of(list(made.say(done(3)))) == [], "not long enough to go there"
    assert streams_of(list(made.say(done(1)))) == [2]
    assert made.accounting()[warm][0] == 1.0


def test_patience_ends_when_the_other_one_would_have_been_cheaper() -> None:
    made = room(A, B)
    (answer,) = placed(made.say(pick(1, **LONG)))
    warm = answer.endpoints[0]
    other = {A: B, B: A}[warm]
    made.say(first(1))
    drain_fast(made)
    assert made.say(pick(2, **LONG)) == []
    made.advance(10.0)
    (answer,) = made.later()
    assert isinstance(answer, Endpoints)
    assert answer.endpoints[0] == other
    # what it takes to compute 8,192 tokens anew
    assert 0.2 < answer.queued_us * 1e-6 < 1.0


def test_a_scrape_that_shows_room_lets_the_next_ones_go() -> None:
    config = FlowConfig(detector=UtilizationConfig(stale_after_s=100.0))
    made = room(A, config=config)
    made.desk.scraped(A, Reading(5.0, 9.0, 0.1), 0.0, made.now_s)
    assert made.say(pick(1), pick(2)) == []
    made.desk.scraped(A, Reading(3.0, 9.0, 0.1), 0.0, made.now_s)
    assert streams_of(made.later()) == [1, 2]


def test_outcome_shed() -> None:
    made = room(A)
    fill(made, 1)
    assert made.say(pick(2, objective="low", seed=2)) == [], "one may always wait"
    answer = rejected(made.say(pick(3, objective="low", seed=3)))
    assert (answer.status, answer.type, answer.code) == (429, "rate_limit_error", "saturated")
    assert answer.reason == "rejected-saturated"
    assert answer.retry_after_ms >= 1_000
    assert answer.retry == 1
    assert made.say(pick(4)) == [], "other priorities are not"
    assert made.count(Outcome.SHED) == 1


def test_who_was_told_to_come_back_is_let_in_and_nobody_else() -> None:
    made = room(A, config=flow(sheddable_wait_max_s=0.0))
    fill(made, 1)
    made.say(pick(2, objective="low", seed=2))
    told = [rejected(made.say(pick(n, objective="low", seed=n))) for n in (3, 4)]
    assert [answer.retry for answer in told] == [1, 1]
    early = rejected(made.say(pick(5, objective="low", seed=3)))
    assert early.retry_after_ms == told[0].retry_after_ms
    made.advance(told[0].retry_after_ms / 1_000)
    assert made.say(pick(6, objective="low", seed=3)) == []
    rejected(made.say(pick(7, objective="low", seed=99)))


def test_a_turn_too_far_away_is_not_promised() -> None:
    made = room(A, config=flow(retry_after_max_s=10.0))
    fill(made, 1)
    made.say(pick(2, objective="low"))
    answers = [rejected(made.say(pick(n, objective="low", seed=n))) for n in range(3, 9)]
    assert answers[-1].retry == 2
    assert answers[-1].retry_after_ms == 10_000


def test_outcome_queue_full() -> None:
    made = room(A, config=flow(default_band=BandConfig(requests_max=2)))
    fill(made, 1)
    assert made.say(pick(2), pick(3)) == []
    answer = rejected(made.say(pick(4)))
    assert (answer.status, answer.code, answer.reason) == (429, "queue_full", "rejected-saturated")
    assert made.say(pick(5, objective="high")) == []


def test_outcome_displaced() -> None:
    made = room(A, config=flow().model_copy(update={"requests_max": 1}))
    fill(made, 1)
    assert made.say(pick(2)) == []
    answer = rejected(made.say(pick(3, objective="high")))
    assert (answer.stream, answer.status, answer.code) == (2, 429, "displaced")
    assert answer.reason == "evicted-priority"
    assert streams_of(list(made.say(done(1)))) == [3]


def test_outcome_queue_timeout() -> None:
    made = room(A, config=flow(ttl_s=20.0))
    fill(made, 1)
    assert made.say(pick(2), pick(3, ttl_ms=5_000), pick(4, ttl_ms=90_000)) == []
    made.advance(4.9)
    assert made.later() == []
    made.advance(0.2)
    answer = refused(made.later())
    assert (answer.stream, answer.status, answer.code) == (3, 429, "queue_timeout")
    assert answer.reason == "rejected-ttl-expired"
    made.advance(15.0)
    assert [answer.stream for answer in made.later() if isinstance(answer, Reject)] == [2, 4]
    assert made.say(done(1)) == []


def test_outcome_shutting_down() -> None:
    made = room(A)
    fill(made, 1)
    made.say(pick(2))
    made.desk.end()
    answer = refused(made.later())
    assert (answer.stream, answer.status, answer.reason) == (2, 503, "rejected-shutting-down")
    assert made.desk.tick_in_s() == float("inf")


def test_an_empty_pool_is_waited_for() -> None:
    made = room(config=flow(no_endpoint_ttl_s=30.0))
    assert made.say(pick(1), pick(2)) == []
    made.advance(20.0)
    made.desk.configure(PickerConfig(version=2, pools=(narrow(A, config=flow()),)))
    assert made.later() == [], "Envoy may not know the endpoint yet"
    made.advance(SETTLE_S + 0.1)
    assert streams_of(made.later()) == [1]
    made.advance(58.8)
    assert made.later() == [], "its time starts over"
    made.advance(1.1)
    assert refused(made.later()).code == "queue_timeout"


def test_an_empty_pool_is_not_waited_for_longer_than_its_own_time() -> None:
    made = room(config=flow(no_endpoint_ttl_s=30.0))
    made.say(pick(1))
    made.advance(29.9)
    assert made.later() == []
    made.advance(0.2)
    answer = refused(made.later())
    assert (answer.status, answer.reason) == (503, "rejected-no-endpoints")


def test_endpoints_that_are_not_ready_are_not_waited_for_by_default() -> None:
    made = room(A)
    fill(made, 1)
    made.say(pick(2))
    gone = EndpointConfig(address=A, server="default/s", ready=False)
    config = narrow(A).model_copy(update={"endpoints": (gone,)})
    made.desk.configure(PickerConfig(version=2, pools=(config,)))
    assert refused(made.later()).code == "no_endpoint"
    assert rejected(made.say(pick(3))).code == "no_endpoint"


def test_a_stream_that_waits_long_is_kept_alive() -> None:
    made = room(A, config=flow(keepalive_s=5.0))
    fill(made, 1)
    made.say(pick(2, streamed=True, keeps_alive=True), pick(3, streamed=True), pick(4))
    made.advance(4.9)
    assert made.later() == []
    made.advance(0.2)
    assert made.later() == [Queued(2, 5_000)]
    made.advance(20.0)
    assert made.later() == []


def test_flows_are_headers_or_identities() -> None:
    made = room(A, config=flow(identity_header="x-client"))
    fill(made, 1)
    for stream in (2, 3):
        made.say(pick(stream, fairness="a"))
    for stream in (4, 5):
        made.say(pick(stream, headers={"x-client": "b"}))
    order = []
    for stream in (1, 2, 4, 3):
        order += streams_of(list(made.say(done(stream))))
    assert order == [2, 4, 3, 5]


def test_what_a_flow_really_took_counts() -> None:
    made = room(A)
    fill(made, 1)
    for stream in (2, 3, 4):
        made.say(pick(stream, fairness="a"))
    for stream in (5, 6, 7):
        made.say(pick(stream, fairness="b"))
    order = streams_of(list(made.say(done(1))))
    order += streams_of(list(made.say(done(2, usage=(512, 0, 50_000)))))  # far more than expected
    for stream in (5, 6):
        order += streams_of(list(made.say(done(stream, usage=(512, 0, 200)))))
    assert order == [2, 5, 6, 7]


def test_gate_everything_waits_for_the_pool() -> None:
    made = room(A, B, config=flow(mode="gate"))
    (answer,) = placed(made.say(pick(1)))
    busy = answer.endpoints[0]
    (answer,) = placed(made.say(pick(2)))
    assert answer.endpoints[0] != busy
    assert made.say(pick(3), pick(4, objective="high"), pick(5, objective="low")) == []
    (answer,) = placed(made.say(done(1)))
    assert (answer.stream, answer.endpoints[0]) == (4, busy)
    assert streams_of(list(made.say(done(2)))) == [3]
    assert streams_of(list(made.say(done(3)))) == [5]


def test_gate_ceilings_hold_back_the_low() -> None:
    config = flow(10, mode="gate", ceiling={"least_ratio": 0.5, "most_ratio": 1.0})
    made = room(A, config=config)
    fill(made, *range(5))
    assert made.say(pick(10, objective="low")) == []
    assert len(placed(made.say(pick(11)))) == 1  # 0.75
    assert len(placed(made.say(pick(12, objective="high")))) == 1
    assert made.say(*(done(stream) for stream in range(2))) == []
    assert streams_of(list(made.say(done(2)))) == [10]


def test_late_binding_ceilings_hold_back_the_low() -> None:
    made = room(A, config=flow(4, ceiling={"least_ratio": 0.5, "most_ratio": 1.0}))
    fill(made, 1, 2)
    assert made.say(pick(3, objective="low")) == []
    assert len(placed(made.say(pick(4)))) == 1
    assert made.say(pick(5)) == []
    assert len(placed(made.say(pick(6, objective="high")))) == 1
    assert made.say(done(6)) == []
    assert streams_of(list(made.say(done(4)))) == [5]


def test_legacy_nothing_waits_and_only_the_sheddable_is_refused() -> None:
    made = room(A, config=flow(mode="legacy"))
    fill(made, 1, 2, 3)
    answer = rejected(made.say(pick(4, objective="low")))
    assert (answer.status, answer.code) == (429, "saturated")
    made.say(done(1), done(2), done(3))
    assert len(placed(made.say(pick(5, objective="low")))) == 1


def test_the_sheddable_is_refused_at_random_when_that_is_wished() -> None:
    made = room(A, config=flow(1_000, shedding=SheddingConfig()))
    made.desk.scraped(A, Reading(1.2, 9.0, 0.1), 0.0, made.now_s)  # 300 · 0.24^5 = 0.24
    refused = sum(
        isinstance(made.say(pick(n, objective="low", seed=n))[0], Reject) for n in range(400)
    )
    assert 60 <= refused <= 135
    assert len(placed(made.say(*(pick(n, seed=n) for n in range(500, 600))))) == 100


def test_two_pools_on_one_server() -> None:
    """Room at a server is room for every pool that has it."""
    pools = [narrow(A), narrow(A).model_copy(update={"name": "default/other"})]
    made = Room(*pools)
    fill(made, 1)
    assert made.say(pick(2, pool="default/other")) == []
    assert streams_of(list(made.say(done(1)))) == [2]
    assert made.say(pick(3, pool=POOL)) == []


def test_what_waits_is_seen() -> None:
    made = room(A)
    fill(made, 1)
    made.say(pick(2, fairness="a"), pick(3, fairness="a"), pick(4, objective="high"))
    for stream in (5, 6):
        made.say(pick(stream, objective="low", seed=stream))
    made.now_s += 2.0
    made.say(done(1))
    status = made.desk.layer.status(POOL, made.now_s)
    known = {"flow": made.desk.holding.status(POOL, made.now_s)}
    status = status.model_copy(update=known)
    assert status.flow.saturation == 1.0
    assert [(band.priority, band.requests) for band in status.flow.bands] == [
        (10, 0),
        (0, 2),
        (-10, 1),
    ]
    assert status.flow.tickets == 1
    families = flow_families(
        PickerStatus(version=1, pools=(status,)),
        made.desk.holding.counters(),
        made.metrics.pools(),
    )
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }
    theirs = "llm_d_epp_flow_control_"
    assert found["inferway_queue_requests", "0", POOL] == 2
    assert found["inferway_saturation_ratio", POOL] == 1.0
    assert found["inferway_queue_wait_seconds_sum", "10", "Dispatched", POOL] == 2.0
    assert found[f"{theirs}queue_size", "0", "a", POOL] == 2
    assert found[f"{theirs}capacity_utilization_requests", "0", POOL] == 2 / 5_000
    assert found[f"{theirs}global_capacity_utilization_requests", POOL] == 3 / 10_000
    assert found[f"{theirs}requests_total", "0", "Dispatched", POOL] == 1
    assert found[f"{theirs}requests_total", "10", "Dispatched", POOL] == 1
    assert found[f"{theirs}requests_total", "-10", "RejectedCapacity", POOL] == 1
