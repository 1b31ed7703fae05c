"""Admitted frames take effect: decisions, charges, counters; across configurations and losses."""

from __future__ import annotations

from collections import Counter

import pytest

from inferway._native import FrameReader, Pick
from inferway.picker.config import EndpointConfig, PickerConfig, PoolConfig, RewriteConfig
from inferway.picker.datalayer.models import Served
from inferway.picker.outcome import Outcome
from inferway.picker.protocol import filter_side
from inferway.picker.protocol.filter_side import Reject
from inferway.picker.scheduling.decide import PoolScheduler
from tests.unit.picker.runtime.room import POOL, A, B, C, Room, placed, pool, rejected


def test_outcome_picked() -> None:
    room = Room(pool(A, B))
    (answer,) = placed(room.say(filter_side.pick(1)))
    assert answer.stream == 1
    assert sorted(answer.endpoints) == [A, B]
    assert answer.model == ""
    assert answer.charged_uncached > 0
    assert room.count(Outcome.PICKED) == 1
    assert room.picked == [100.0]


def test_a_deadline_for_the_first_token_goes_with_the_answer() -> None:
    room = Room(pool(A).model_copy(update={"first_token_deadline_ms": 1_500}))
    (answer,) = placed(room.say(filter_side.pick(1)))
    assert answer.ttft_deadline_ms == 1_500


def test_outcome_model_not_found() -> None:
    room = Room(pool(A))
    room.layer.models(A, Served(models=("llama",)))
    answer = rejected(room.say(filter_side.pick(1, model="gpt")))
    assert (answer.status, answer.type) == (404, "invalid_request_error")
    assert answer.code == "model_not_found"
    assert "'gpt'" in answer.message
    assert answer.retry_after_ms == 0
    assert answer.reason == ""
    assert room.count(Outcome.MODEL_NOT_FOUND) == 1
    assert room.accounting() == {}


def test_outcome_pool_not_found() -> None:
    room = Room(pool(A))
    answer = rejected(room.say(filter_side.pick(1, pool="default/nobody")))
    assert (answer.status, answer.code) == (503, "pool_not_found")
    assert answer.retry_after_ms == 1_000
    assert room.count(Outcome.POOL_NOT_FOUND, "default/nobody") == 1


def test_outcome_no_endpoint() -> None:
    room = Room(pool())
    answer = rejected(room.say(filter_side.pick(1)))
    assert (answer.status, answer.type) == (503, "service_unavailable")
    assert answer.code == "no_endpoint"
    assert answer.retry_after_ms == 1_000
    assert room.count(Outcome.NO_ENDPOINT) == 1


def test_outcome_slo_missed() -> None:
    room = Room(pool(A, B))
    busy = [filter_side.pick(n, blocks=0, prompt_bytes=400_000) for n in (1, 2)]
    placed(room.say(*busy))
    now_ns = round(room.now_s * 1e9)
    late = filter_side.pick(3, slo_ttft_ms=500, received_ns=now_ns)
    answer = rejected(room.say(late))
    assert (answer.status, answer.code, answer.reason) == (
        429,
        "slo_not_attainable",
        "rejected-slo",
    )
    assert answer.retry_after_ms >= 1_000
    assert room.count(Outcome.SLO_MISSED) == 1
    placed(room.say(filter_side.pick(4, slo_ttft_ms=60_000, received_ns=now_ns)))


def test_outcome_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(pool(A))
    whole = PoolScheduler.place

    def place_and_fail(self: PoolScheduler, *arguments: object) -> None:
        whole(self, *arguments)  # type: ignore[arg-type]
        raise ZeroDivisionError

    monkeypatch.setattr(PoolScheduler, "place", place_and_fail)
    first, second = room.say(filter_side.pick(1), filter_side.pick(2))
    for answer in (first, second):
        assert isinstance(answer, Reject)
        assert (answer.status, answer.code) == (500, "picker_failed")
    assert room.count(Outcome.FAILED) == 2
    assert room.accounting() == {}, "what the failed decision had charged is released"


def test_outcome_overloaded() -> None:
    room = Room(pool(A), streams_max=2)
    assert len(placed(room.say(filter_side.pick(1), filter_side.pick(2)))) == 2
    answer = rejected(room.say(filter_side.pick(3)))
    assert (answer.status, answer.code) == (503, "overloaded")
    assert room.count(Outcome.OVERLOADED) == 1
    room.say(filter_side.done(1), filter_side.done(3))
    assert len(placed(room.say(filter_side.pick(4)))) == 1


def test_a_model_is_only_refused_when_everybody_has_told() -> None:
    room = Room(pool(A, B))
    room.layer.models(A, Served(models=("llama",)))
    assert len(placed(room.say(filter_side.pick(1, model="gpt")))) == 1
    room.layer.models(B, Served(models=("llama",)))
    assert rejected(room.say(filter_side.pick(2, model="gpt"))).status == 404
    room.layer.models(B, Served(models=("llama", "gpt")))
    assert placed(room.say(filter_side.pick(3, model="gpt")))[0].endpoints[0] == B


def test_a_burst_spreads_evenly() -> None:
    room = Room(pool(A, B, C))
    answers = placed(room.say(*(filter_side.pick(s, seed=s) for s in range(30))))
    assert Counter(a.endpoints[0] for a in answers) == {A: 10, B: 10, C: 10}
    assert {values[0] for values in room.accounting().values()} == {10.0}


def test_answers_come_in_the_order_of_the_picks() -> None:
    room = Room(pool(A))
    answers = room.say(
        filter_side.pick(5), filter_side.pick(3, pool="default/nobody"), filter_side.pick(4)
    )
    assert [answer.stream for answer in answers] == [5, 3, 4]


def test_a_done_before_a_pick_in_one_batch_frees_its_place() -> None:
    room = Room(pool(A, B, policy="least-request"))
    taken = placed(room.say(filter_side.pick(1)))[0].endpoints[0]
    (answer,) = placed(room.say(filter_side.done(1), filter_side.pick(2), filter_side.pick(3)))[:1]
    assert set(room.accounting()) == {A, B}
    assert taken in (A, B)
    assert answer.stream == 2


def test_first_releases_the_prompt_and_done_the_rest() -> None:
    room = Room(pool(A))
    (answer,) = placed(room.say(filter_side.pick(1)))
    charged = (1.0, float(answer.charged_uncached), float(answer.charged_context))
    assert room.accounting() == {A: charged}
    room.say(filter_side.first(1))
    assert room.accounting() == {A: (1.0, 0.0, charged[2])}
    room.say(filter_side.done(1))
    assert room.accounting() == {}
    assert room.desk.open_streams == 0


def test_done_without_first_releases_all() -> None:
    room = Room(pool(A))
    room.say(filter_side.pick(1), filter_side.done(1, end=1, status=503, ttft_us=0))
    assert room.accounting() == {}


def test_a_repeated_pick_is_charged_once() -> None:
    room = Room(pool(A))
    room.say(filter_side.pick(1))
    before = room.accounting()[A][0]
    room.say(filter_side.pick(1, repeated=True))
    assert room.accounting()[A][0] == before == 1.0
    assert room.desk.open_streams == 1


def test_a_repeated_pick_that_is_refused_holds_nothing() -> None:
    room = Room(pool(A))
    room.say(filter_side.pick(1))
    room.desk.configure(PickerConfig(version=2, pools=(pool(),)))
    assert rejected(room.say(filter_side.pick(1, repeated=True))).code == "no_endpoint"
    assert room.desk.open_streams == 0
    assert len(room.layer.in_flight) == 0


def test_dropping_a_connection_releases_only_what_it_held() -> None:
    room = Room(pool(A))
    room.say(*(filter_side.pick(s) for s in range(5)), connection=1)
    (kept,) = placed(room.say(filter_side.pick(1), connection=2))
    room.say(filter_side.first(0), connection=1)
    room.desk.drop(1)
    assert room.accounting() == {A: (1.0, kept.charged_uncached, kept.charged_context)}
    assert room.desk.open_streams == 1
    assert room.metrics.model(POOL, "llama").running == 1


def test_dropping_a_connection_that_said_nothing() -> None:
    room = Room(pool(A))
    room.desk.drop(77)
    assert room.desk.open_streams == 0


def test_replayed_streams_are_charged_as_the_filter_says() -> None:
    room = Room(pool(A, B))
    room.say(
        filter_side.opened(1, endpoint=A, uncached=10, context=30),
        filter_side.opened(2, endpoint=A, uncached=10, context=30, phase=1),
        filter_side.opened(3, endpoint=""),
        filter_side.opened(4, endpoint="10.9.9.9:1", uncached=5, context=5),
    )
    assert room.accounting() == {A: (2.0, 10.0, 60.0)}
    assert room.desk.open_streams == 4
    room.say(*(filter_side.done(s) for s in range(1, 5)))
    assert room.accounting() == {}
    assert room.desk.open_streams == 0


def test_a_new_configuration_keeps_what_is_known() -> None:
    room = Room(pool(A, B))
    (warm,) = placed(room.say(filter_side.pick(1, blocks=16)))
    address = warm.endpoints[0]
    room.desk.configure(PickerConfig(version=2, pools=(pool(C, B, A),)))
    assert set(room.accounting()) == {address}
    room.say(filter_side.done(1))
    (again,) = placed(room.say(filter_side.pick(2, blocks=16)))
    assert again.endpoints[0] == address, "the prefix index was carried over"
    assert again.charged_uncached < warm.charged_uncached


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((pool(A, policy="guess"),), "guess"),
        ((pool(A), pool(B)), "listed twice"),
        (
            (
                PoolConfig(
                    name=POOL,
                    endpoints=(EndpointConfig(address=B, server="default/s", engine="abacus"),),
                ),
            ),
            "abacus",
        ),
    ],
)
def test_a_bad_configuration_changes_nothing(bad: tuple[PoolConfig, ...], message: str) -> None:
    room = Room(pool(A))
    room.say(filter_side.pick(1))
    before = room.accounting()
    with pytest.raises(ValueError, match=message):
        room.desk.configure(PickerConfig(version=2, pools=bad))
    assert room.desk.runtime.config.version == 1
    assert room.accounting() == before
    assert placed(room.say(filter_side.pick(2)))[0].endpoints == (A,)


@pytest.mark.parametrize(
    ("objective", "model", "priority"),
    [
        ("chat", "llama", 10),  # the header first
        ("", "batch", -10),  # else the model's own
        ("", "llama", 0),
        ("nobody", "llama", 0),
        ("nobody", "batch", -10),  # a made-up header is no way around it
    ],
)
def test_priority(objective: str, model: str, priority: int) -> None:
    room = Room(pool(A, chat=10, batch=-10))
    room.say(filter_side.pick(1, objective=objective, model=model))
    assert room.counters().priorities == {priority: 1}


def test_usage_teaches_and_counts() -> None:
    room = Room(pool(A))
    room.say(filter_side.pick(1, prompt_bytes=3_000, model="m"))
    room.say(filter_side.done(1, usage=(1_000, 400, 50), endpoint=A, event_stream=True))
    assert room.layer.estimates.of("m").bytes_per_token < 4.0
    counters = room.metrics.model(POOL, "m")
    assert counters.prompt_tokens.total == 1_000
    assert counters.cached_tokens.total == 400
    assert counters.completion_tokens.total == 50
    assert room.answered == [A]


@pytest.mark.parametrize(("end", "status"), [(1, 200), (2, 200), (0, 500), (3, 404)])
def test_what_went_wrong_teaches_nothing(end: int, status: int) -> None:
    room = Room(pool(A))
    room.say(filter_side.pick(1, prompt_bytes=3_000, model="m"))
    room.say(filter_side.done(1, end=end, status=status, usage=(1_000, 0, 50), endpoint=A))
    assert room.layer.estimates.of("m").bytes_per_token == 4.0
    assert room.answered == []
    assert room.metrics.model(POOL, "m").ends[end] == 1


def test_events_alone_do_not_count_as_picks() -> None:
    room = Room(pool(A))
    room.say(filter_side.pick(1))
    room.picked.clear()
    room.say(filter_side.first(1), filter_side.done(1))
    assert room.picked == []


def named(alias: str, *targets: tuple[str, int]) -> PoolConfig:
    rewrite = RewriteConfig(model=alias, targets=targets)
    return pool(A, B, chat=7).model_copy(update={"rewrites": (rewrite,)})


def test_a_rewritten_request_is_picked_for_its_target() -> None:
    """The name is resolved before anything is looked up: served models, prompts, adapters."""
    room = Room(named("chat", ("chat-v2", 1)))
    room.layer.models(A, Served(("base", "chat-v1"), ("chat-v1",)))
    room.layer.models(B, Served(("base", "chat-v2"), ("chat-v2",)))
    [prompt] = FrameReader().feed(filter_side.pick(9))
    assert isinstance(prompt, Pick)
    for stream in range(1, 6):
        (answer,) = placed(room.say(filter_side.pick(stream, model="chat")))
        assert answer.endpoints == (B,)
        assert answer.model == "chat-v2"
    # The prompt is known for the target, so its repetition costs less; for the alias it is not.
    assert answer.charged_uncached < 100
    prefix = room.layer.pools[POOL].prefix
    assert prefix.match(prompt.hashes, "chat").max() == 0
    assert prefix.match(prompt.hashes, "chat-v2").max() > 0
    assert room.counters().priorities == {7: 5}  # by the name that the client sent
    assert [cell.model for cell in room.metrics.models()] == ["chat-v2"]


def test_a_name_whose_target_nobody_serves_is_not_found() -> None:
    room = Room(named("chat", ("chat-v2", 1)))
    for address in (A, B):
        room.layer.models(address, Served(("chat", "chat-v1")))
    answer = rejected(room.say(filter_side.pick(1, model="chat")))
    assert (answer.status, answer.code) == (404, "model_not_found")
    assert "'chat'" in answer.message
    assert placed(room.say(filter_side.pick(2, model="chat-v1")))[0].model == ""


def test_new_weights_hold_from_the_next_pick() -> None:
    room = Room(named("chat", ("chat-v1", 1)))
    assert placed(room.say(filter_side.pick(1, model="chat")))[0].model == "chat-v1"
    room.desk.configure(PickerConfig(version=2, pools=(named("chat", ("chat-v2", 1)),)))
    assert placed(room.say(filter_side.pick(2, model="chat")))[0].model == "chat-v2"


def test_faults_of_attempts_eject_and_the_next_good_answer_readmits() -> None:
    """Of two endpoints, A resets every connection; B makes it good."""
    room = Room(pool(A, B, policy="round-robin"))
    for stream in range(1, 11):
        (answer,) = placed(room.say(filter_side.pick(stream)))
        if answer.endpoints[0] == A:
            room.say(filter_side.fault(A, cause=2))
        room.say(filter_side.done(stream, endpoint=B, attempts=2))
    assert [e.health for e in room.layer.status(POOL, room.now_s).endpoints] == [
        "ejected",
        "active",
    ]
    (answer,) = placed(room.say(filter_side.pick(20)))
    assert answer.endpoints == (B,)
    room.now_s += 5.0
    for stream in range(30, 33):
        room.say(filter_side.pick(stream))
    assert [e.health for e in room.layer.status(POOL, room.now_s).endpoints] == [
        "probing",
        "active",
    ]
    for stream in range(30, 33):
        room.say(filter_side.first(stream))
    assert room.layer.status(POOL, room.now_s).endpoints[0].ready


def test_truncated_streams_eject_and_client_errors_do_not() -> None:
    room = Room(pool(A, B))
    for stream in range(1, 41):
        (answer,) = placed(room.say(filter_side.pick(stream)))
        room.say(filter_side.fault(answer.endpoints[0], cause=4, status=400))
        room.say(filter_side.done(stream, status=400, endpoint=answer.endpoints[0]))
    assert not room.layer.health.watched
    for stream in range(41, 46):
        room.say(filter_side.pick(stream))
        room.say(filter_side.done(stream, fault=1, endpoint=A))
    assert room.layer.health.standing(A).cause == "truncated"
