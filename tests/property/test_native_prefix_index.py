"""The prefix index against a model that a reader can check by eye."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inferway import _native

ENDPOINTS = 5


class Model:
    """Per endpoint: key → bytes, oldest first."""

    def __init__(self, blocks_max: int) -> None:
        self.blocks_max = blocks_max
        self.held: list[OrderedDict[int, int]] = [OrderedDict() for _ in range(ENDPOINTS)]
        self.bytes_max = [2**63] * ENDPOINTS

    def size(self, endpoint: int) -> int:
        return sum(self.held[endpoint].values())

    def blocks(self) -> int:
        return sum(map(len, self.held))

    def shrink(self, endpoint: int) -> None:
        while self.size(endpoint) > self.bytes_max[endpoint]:
            self.held[endpoint].popitem(last=False)
        while self.blocks() > self.blocks_max:
            sizes = [self.size(e) for e in range(ENDPOINTS)]
            fullest = sizes.index(max(sizes))
            second = max(size for e, size in enumerate(sizes) if e != fullest)
            while self.blocks() > self.blocks_max and self.size(fullest) >= second:
                self.held[fullest].popitem(last=False)

    def insert(self, endpoint: int, keys: list[int]) -> None:
        held = self.held[endpoint]
        for position, key in reversed(list(enumerate(keys))):
            size = _native.block_end_bytes(position + 1) - _native.block_end_bytes(position)
            held.setdefault(key, size)
            held.move_to_end(key)
        self.shrink(endpoint)

    def match(self, keys: list[int], endpoints: int) -> list[float]:
        result = []
        for endpoint in range(endpoints):
            held = self.held[endpoint] if endpoint < ENDPOINTS else {}
            matched = 0
            while matched < len(keys) and keys[matched] in held:
                matched += 1
            result.append(float(_native.block_end_bytes(matched)))
        return result


def chain(words: list[int]) -> npt.NDArray[np.uint64]:
    """Hashes of a prompt of these blocks: equal beginnings give equal hashes."""
    hashes = [hash(tuple(words[: n + 1])) % 2**64 for n in range(len(words))]
    return np.array(hashes, dtype=np.uint64)


endpoints = st.integers(0, ENDPOINTS - 1)
prompts = st.lists(st.integers(0, 2), max_size=40).map(chain)
anything = st.lists(st.integers(0, 12), max_size=12).map(
    lambda keys: np.array(keys, dtype=np.uint64)
)
seeds = st.sampled_from([0, 1, 2**64 - 1])


class Comparison(RuleBasedStateMachine):
    @initialize(blocks_max=st.sampled_from([1, 7, 60, 100_000]))
    def start(self, blocks_max: int) -> None:
        self.index = _native.PrefixIndex(blocks_max)
        self.model = Model(blocks_max)

    @rule(endpoint=endpoints, hashes=prompts | anything, seed=seeds)
    def insert(self, endpoint: int, hashes: npt.NDArray[np.uint64], seed: int) -> None:
        self.index.insert(endpoint, hashes, seed)
        self.model.insert(endpoint, [int(h) ^ seed for h in hashes])

    @rule(hashes=prompts | anything, seed=seeds, count=st.integers(0, ENDPOINTS + 2))
    def match(self, hashes: npt.NDArray[np.uint64], seed: int, count: int) -> None:
        result = self.index.match(hashes, seed, count)
        assert result.dtype == np.float64
        assert result.tolist() == self.model.match([int(h) ^ seed for h in hashes], count)

    @rule(endpoint=endpoints, bytes_max=st.sampled_from([0, 256, 1000, 5000, 20_000, 2**40]))
    def set_capacity(self, endpoint: int, bytes_max: int) -> None:
        self.index.set_capacity(endpoint, bytes_max)
        self.model.bytes_max[endpoint] = bytes_max
        self.model.shrink(endpoint)

    @rule(endpoint=endpoints, keys=anything, hashes=prompts, seed=seeds)
    def remove(
        self,
        endpoint: int,
        keys: npt.NDArray[np.uint64],
        hashes: npt.NDArray[np.uint64],
        seed: int,
    ) -> None:
        gone = np.concatenate([keys, hashes[len(hashes) // 2 :] ^ np.uint64(seed)])
        self.index.remove(endpoint, gone)
        for key in gone.tolist():
            self.model.held[endpoint].pop(key, None)

    @rule(endpoint=endpoints)
    def clear(self, endpoint: int) -> None:
        self.index.clear(endpoint)
        self.model.held[endpoint].clear()

    @invariant()
    def sizes_agree(self) -> None:
        if not hasattr(self, "index"):
            return
        assert len(self.index) == self.model.blocks() <= self.model.blocks_max
        for endpoint in range(ENDPOINTS):
            assert self.index.endpoint_bytes(endpoint) == self.model.size(endpoint)
        assert self.index.memory_bytes() >= 32 * len(self.index)


TestComparison = Comparison.TestCase
TestComparison.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_beginning_of_a_prompt_outlives_its_end() -> None:
    index = _native.PrefixIndex(1000)
    index.set_capacity(0, 10 * 256)
    prompt = chain(list(range(30)))
    index.insert(0, prompt, 0)
    assert index.match(prompt, 0, 1).tolist() == [2560.0]


def test_memory_follows_what_is_held() -> None:
    index = _native.PrefixIndex(1_000_000)
    empty = index.memory_bytes()
    rng = np.random.default_rng(1)
    for endpoint in range(50):
        for _ in range(10):
            index.insert(endpoint, rng.integers(0, 2**63, 1000, dtype=np.uint64), 0)
    per_block = (index.memory_bytes() - empty) / len(index)
    assert 40 < per_block < 120
    shared = rng.integers(0, 2**63, 1000, dtype=np.uint64)
    before = index.memory_bytes()
    for endpoint in range(50):
        index.insert(endpoint, shared, 0)
    assert index.memory_bytes() > before
    for endpoint in range(50):
        index.clear(endpoint)
    assert len(index) == 0


def test_a_new_endpoint_finds_room_in_a_full_index() -> None:
    index = _native.PrefixIndex(100)
    for n in range(10):
        index.insert(0, chain([n] * 20), 0)
    prompt = chain([99] * 20)
    index.insert(1, prompt, 0)
    assert index.match(prompt, 0, 2).tolist() == [0.0, 5120.0]
    assert len(index) == 100


def test_arguments_have_limits() -> None:
    index = _native.PrefixIndex(10)
    hashes = np.zeros(1, dtype=np.uint64)
    with pytest.raises(ValueError, match="blocks_max"):
        _native.PrefixIndex(0)
    with pytest.raises(ValueError, match="endpoint"):
        index.insert(1 << 20, hashes, 0)
    with pytest.raises(ValueError, match="endpoint"):
        index.set_capacity(1 << 20, 5)
    with pytest.raises(TypeError):
        index.insert(0, hashes.astype(np.int64), 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="contiguous"):
        index.insert(0, np.zeros(4, dtype=np.uint64)[::2], 0)
    assert index.endpoint_bytes(5) == 0
    index.clear(5)
