"""What is counted of versions, and when."""

from __future__ import annotations

import time

import pytest

from inferway._native import Done, FrameReader
from inferway.observability.latency_buckets import bucket_of
from inferway.picker.config import PickerConfig, RewriteConfig, VersionStatus
from inferway.picker.datalayer.models import Served
from inferway.picker.metrics import ModelCounters, PickerMetrics
from inferway.picker.protocol import filter_side
from inferway.picker.versions import VersionCounters

from .test_desk import A, B, Room, pool


def ended(**values: object) -> Done:
    (frame,) = FrameReader().feed(filter_side.done(1, **values))  # type: ignore[arg-type]
    assert isinstance(frame, Done)
    return frame


@pytest.mark.parametrize(
    ("end", "status", "served", "errors", "shed"),
    [
        (0, 200, 1, 0, 0),
        (0, 404, 1, 0, 0),  # a client's error is an answer
        (0, 500, 1, 1, 0),
        (0, 502, 1, 1, 0),
        (0, 503, 0, 0, 1),  # back-pressure
        (0, 429, 0, 0, 1),
        (1, 503, 1, 1, 0),  # Envoy's own answer when a connection failed
        (1, 200, 1, 1, 0),  # a stream that broke
        (2, 200, 0, 0, 0),  # the client left
        (3, 503, 0, 0, 0),  # counted when it was refused
    ],
)
def test_what_counts_as_what(end: int, status: int, served: int, errors: int, shed: int) -> None:
    counters = VersionCounters()
    counters.ended(ended(end=end, status=status))
    assert (counters.served, counters.errors, counters.shed) == (served, errors, shed)


def test_latencies_of_good_answers() -> None:
    counters = VersionCounters()
    stream = {"ttft_us": 250_000, "duration_us": 1_240_000, "event_stream": True}
    counters.ended(ended(status=200, usage=(5, 0, 100), **stream))
    counters.ended(ended(status=500, **stream))
    counters.ended(ended(status=200, ttft_us=0))
    counters.ended(ended(status=200, ttft_us=1_000_000, duration_us=2_000_000))
    assert counters.ttft == {bucket_of(0.25): 1, bucket_of(1.0): 1}
    assert counters.tpot == {bucket_of(0.01): 1}


def room(*pools: object, measured: tuple[str, ...]) -> Room:
    made = Room(*pools)  # type: ignore[arg-type]
    made.metrics.measure(measured)
    return made


def seen(found: Room) -> dict[tuple[str, str], VersionStatus]:
    return {(one.pool, one.model): one for one in found.metrics.versions.status()}


def test_only_measured_pools_are_counted() -> None:
    two = room(pool(A, name="default/a"), pool(B, name="default/b"), measured=("default/b",))
    two.say(filter_side.pick(1, pool="default/a"), filter_side.pick(2, pool="default/b"))
    two.say(filter_side.done(1, status=200), filter_side.done(2, status=200))
    ((key, one),) = seen(two).items()
    assert (key[0], one.served) == ("default/b", 1)
    two.metrics.measure(("default/a", "default/b"))
    two.say(filter_side.pick(3, pool="default/a"), filter_side.pick(4, pool="default/b"))
    two.say(filter_side.done(3, status=200), filter_side.done(4, status=500))
    assert {one.pool: (one.served, one.errors) for one in seen(two).values()} == {
        "default/a": (1, 0),
        "default/b": (2, 1),
    }
    two.metrics.measure(())
    assert seen(two) == {}


def test_nobody_there_is_a_fault() -> None:
    empty = room(pool(name="default/a"), measured=("default/a",))
    empty.say(filter_side.pick(1, pool="default/a", model="llama"))
    (one,) = seen(empty).values()
    assert (one.model, one.served, one.errors) == ("other", 1, 1)


def test_a_model_that_only_the_old_pool_has_is_a_fault_of_the_new_one() -> None:
    two = room(
        pool(A, name="default/old"),
        pool(B, name="default/new"),
        measured=("default/old", "default/new"),
    )
    two.layer.models(A, Served(models=("llama", "bot")))
    two.layer.models(B, Served(models=("llama",)))
    two.say(filter_side.pick(1, pool="default/new", model="bot"))
    two.say(filter_side.pick(2, pool="default/new", model="typo"))
    (one,) = seen(two).values()
    assert (one.pool, one.errors) == ("default/new", 1)


def test_a_target_that_nobody_serves_is_a_fault() -> None:
    rewrite = RewriteConfig(model="bot", targets=(("bot-v2", 1),))
    config = pool(A, name="default/a").model_copy(update={"rewrites": (rewrite,)})
    one_pool = room(config, measured=("default/a",))
    one_pool.layer.models(A, Served(models=("bot-v1",)))
    one_pool.say(filter_side.pick(1, pool="default/a", model="bot"))
    (one,) = seen(one_pool).values()
    assert (one.served, one.errors) == (1, 1)


def test_configuration_and_status_carry_it() -> None:
    config = PickerConfig(version=1, measured=("default/a",))
    assert PickerConfig.model_validate_json(config.model_dump_json()).measured == ("default/a",)


def test_the_cost_of_measuring_is_small() -> None:
    """A bound that only a mistake exceeds; the figures are in the commit."""
    metrics = PickerMetrics()
    metrics.measure(("p",))
    done = ended(status=200, ttft_us=250_000, duration_us=900_000, usage=(1, 0, 90))
    measured: ModelCounters = metrics.model("p", "m")
    started_s = time.perf_counter()
    for _ in range(2000):
        measured.ended(done)
    assert (time.perf_counter() - started_s) / 2000 < 200e-6
