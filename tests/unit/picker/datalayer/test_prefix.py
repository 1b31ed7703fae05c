"""Slots and rows of the prefix index, capacities, restarts."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest

from inferway.picker.datalayer.engines import Reading
from inferway.picker.datalayer.prefix import CACHE_TOKENS, PrefixStore, restarted

HASHES = np.array([1, 2], dtype=np.uint64)


class Recorder:
    """An index that finds `100 · slot` bytes everywhere and records what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def set_capacity(self, endpoint: int, bytes_max: int) -> None:
        self.calls.append(("capacity", endpoint, bytes_max))

    def match(self, hashes: np.ndarray, seed: int, endpoints: int) -> np.ndarray:
        self.calls.append(("match", seed, endpoints))
        return np.arange(endpoints) * 100.0

    def insert(self, endpoint: int, hashes: np.ndarray, seed: int) -> None:
        self.calls.append(("insert", endpoint, hashes.tolist(), seed))

    def clear(self, endpoint: int) -> None:
        self.calls.append(("clear", endpoint))


@pytest.fixture
def index() -> Recorder:
    return Recorder()


@pytest.fixture
def store(index: Recorder) -> PrefixStore:
    made = PrefixStore(index, lambda name: crc32(name.encode()))
    made.rebind(["a", "b", "c"])
    return made


def test_new_addresses_have_the_default_capacity(index: Recorder, store: PrefixStore) -> None:
    assert index.calls == [("capacity", slot, CACHE_TOKENS * 4) for slot in range(3)]


def test_rows_are_translated_to_slots(index: Recorder, store: PrefixStore) -> None:
    assert store.pool(["a", "b", "c"]).match(HASHES, "m").tolist() == [0.0, 100.0, 200.0]
    swapped = store.pool(["c", "a"])
    assert swapped.match(HASHES, "m").tolist() == [200.0, 0.0]
    swapped.insert(0, HASHES, "m")
    assert index.calls[-2:] == [
        ("match", crc32(b"m"), 3),
        ("insert", 2, [1, 2], crc32(b"m")),
    ]


def test_a_prompt_without_blocks_asks_nothing(index: Recorder, store: PrefixStore) -> None:
    calls = len(index.calls)
    pool = store.pool(["a", "b"])
    assert pool.match(HASHES[:0], "m").tolist() == [0.0, 0.0]
    pool.insert(0, HASHES[:0], "m")
    assert len(index.calls) == calls


def test_a_slot_is_cleared_before_another_address_gets_it(
    index: Recorder, store: PrefixStore
) -> None:
    del index.calls[:]
    store.rebind(["a", "c", "d"])
    assert index.calls == [("clear", 1), ("capacity", 1, CACHE_TOKENS * 4)]
    assert store.pool(["a", "c", "d"]).match(HASHES, "m").tolist() == [0.0, 200.0, 100.0]


def test_capacity_follows_the_engine_but_not_every_tremor(
    index: Recorder, store: PrefixStore
) -> None:
    del index.calls[:]
    reading = Reading(block_size=16, num_blocks=27_000)
    store.record("b", reading, 4.0)
    store.record("b", reading, 4.1)
    store.record("b", reading, 5.0)
    assert index.calls == [("capacity", 1, 1_728_000), ("capacity", 1, 2_160_000)]
    store.record("b", Reading(), 5.0)
    assert len(index.calls) == 2


def test_a_restarted_engine_is_forgotten(index: Recorder, store: PrefixStore) -> None:
    del index.calls[:]
    assert store.record("b", Reading(started_at_s=100.0), 4.0) is False
    assert store.record("b", Reading(started_at_s=100.0), 4.0) is False
    assert store.record("b", Reading(started_at_s=500.0), 4.0) is True
    assert index.calls == [("clear", 1)]
    assert store.record("nobody", Reading(started_at_s=1.0), 4.0) is False


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        (Reading(), Reading(), False),
        (Reading(progress=10.0), Reading(progress=10.0), False),
        (Reading(progress=10.0), Reading(progress=11.0), False),
        (Reading(progress=10.0), Reading(progress=0.0), True),
        (Reading(progress=10.0), Reading(), False),
        (Reading(started_at_s=5.0), Reading(started_at_s=5.4), False),  # rounding
        (Reading(started_at_s=5.0), Reading(started_at_s=60.0), True),
        (
            Reading(started_at_s=5.0, progress=9.0),
            Reading(started_at_s=5.0, progress=3.0),
            True,  # the engine core restarted under a server that stayed
        ),
    ],
)
def test_what_counts_as_a_restart(last: Reading, now: Reading, expected: bool) -> None:
    assert restarted(last, now) is expected
    assert restarted(last, replace(last)) is False


def test_seeds_are_computed_once_per_model(index: Recorder) -> None:
    asked: list[str] = []
    store = PrefixStore(index, lambda name: asked.append(name) or len(asked))  # type: ignore[func-returns-value]
    store.rebind(["a"])
    pool = store.pool(["a"])
    for model in ("m", "n", "m", "m"):
        pool.match(HASHES, model)
    assert asked == ["m", "n"]
