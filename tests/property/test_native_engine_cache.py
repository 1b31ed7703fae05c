"""An engine's blocks as events tell them, against a model that a reader can check by eye."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inferway import _native

RUN_TOKENS_MIN = 48
KEYS = 20


@dataclass
class Block:
    parent: int | None
    end: int  # tokens of its whole prefix; 0: unknown
    tokens: int
    copies: int = 1
    keys: list[int] = field(default_factory=list)  # newest first


@dataclass
class Run:
    leaf: int
    end: int
    block_tokens: int
    tokens: int
    bound: bool = False


class Model:
    """What `EngineCache` promises, in the plainest way."""

    def __init__(self, blocks_max: int) -> None:
        self.blocks_max = blocks_max
        self.blocks: dict[int, Block] = {}
        self.runs: dict[int, Run] = {}
        self.next_run = 0

    def apply(self, events: list[list[Any]]) -> set[int]:
        lost: set[int] = set()
        run: Run | None = None
        for tag, *fields in events:
            if tag == "BlockStored":
                hashes, parent, _, tokens = fields
                if run is not None and run.leaf != parent:
                    self.remember(run)
                    run = None
                self.store(hashes, parent, tokens)
                run = self.extended(run, hashes, tokens)
            elif tag == "BlockRemoved":
                for one in fields[0]:
                    lost |= self.remove(one)
            else:
                run = None
                lost |= self.bound()
                self.blocks, self.runs = {}, {}
        self.remember(run)
        return lost

    def bound(self) -> set[int]:
        return {key for block in self.blocks.values() for key in block.keys}

    def store(self, hashes: list[int], parent: int | None, tokens: int) -> None:
        end = 0 if parent is None else self.blocks[parent].end if parent in self.blocks else 0
        known = parent is None or end > 0
        for one in hashes:
            end = end + tokens if known else 0
            if one in self.blocks:
                block = self.blocks[one]
                block.copies += 1
                if block.end == 0:
                    block.parent, block.end = parent, end
            elif len(self.blocks) < self.blocks_max:
                self.blocks[one] = Block(parent, end, tokens)
            parent = one

    def extended(self, run: Run | None, hashes: list[int], tokens: int) -> Run | None:
        block = self.blocks.get(hashes[-1])
        if block is None or block.end == 0:
            return None
        before = run.tokens if run else 0
        return Run(hashes[-1], block.end, tokens, before + len(hashes) * tokens)

    def remember(self, run: Run | None) -> None:
        if run is not None and run.tokens >= RUN_TOKENS_MIN:
            self.runs[self.next_run] = run
            self.next_run += 1

    def remove(self, one: int) -> set[int]:
        block = self.blocks.get(one)
        if block is None:
            return set()
        block.copies -= 1
        return set() if block.copies else set(self.blocks.pop(one).keys)

    def path(self, leaf: int) -> list[Block] | None:
        path: list[Block] = []
        at: int | None = leaf
        while True:
            block = self.blocks.get(at) if at is not None else None
            if block is None or block.end < block.tokens or len(path) > len(self.blocks):
                return None
            path.insert(0, block)
            if block.end == block.tokens:
                return path
            at = block.parent

    def candidates(self, tokens: int, keys: list[int]) -> list[tuple[int, int, int, int]]:
        found = []
        for number, run in self.runs.items():
            path = self.path(run.leaf)
            if run.bound or path is None or not 0 <= tokens - run.end < run.block_tokens:
                continue
            bound = [key for block in path for key in block.keys]
            own = sum(key in keys for key in bound)
            found.append((number, run.tokens, own, len(bound) - own))
        return found

    def bind(self, number: int, keys: list[int], tokens: int, prompt_bytes: int) -> int:
        run = self.runs.get(number)
        if run is None:
            return 0
        run.bound = True
        path = self.path(run.leaf)
        if path is None:
            return 0
        known, known_tokens = 0, 0
        for block in reversed(path):
            positions = [keys.index(key) + 1 for key in block.keys if key in keys]
            if positions:
                known, known_tokens = max(positions), block.end
                break
        start = _native.block_end_bytes(known)
        per_byte = max(tokens - known_tokens, 0) / max(prompt_bytes - start, 1)
        for position in range(known, len(keys)):
            end = known_tokens + (_native.block_end_bytes(position + 1) - start) * per_byte
            block = next((block for block in path if block.end >= end), None)
            if block is None:
                return position
            key = keys[position]
            for other in self.blocks.values():
                if key in other.keys and other is not block:
                    other.keys.remove(key)
            if key not in block.keys:
                block.keys.insert(0, key)
                del block.keys[8:]
        return len(keys)


def batch(events: list[list[Any]]) -> bytes:
    return msgspec.msgpack.encode([0.0, events, 0])


hashes = st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True)
stored = st.tuples(hashes, st.none() | st.integers(0, 30), st.sampled_from([16, 64])).map(
    lambda drawn: ["BlockStored", drawn[0], drawn[1], [1] * (len(drawn[0]) * drawn[2]), drawn[2]]
)
removed = hashes.map(lambda drawn: ["BlockRemoved", drawn])
events = st.lists(st.one_of(stored, stored, stored, removed), min_size=1, max_size=5)
# Mostly beginnings of the same two conversations, as real prompts are.
prompts = st.one_of(
    st.integers(1, 8).map(lambda n: list(range(n))),
    st.tuples(st.integers(0, 4), st.integers(8, KEYS)).map(
        lambda cut: [*range(cut[0]), *range(10, cut[1])]
    ),
    st.lists(st.integers(0, KEYS - 1), unique=True, max_size=8),
)


class Comparison(RuleBasedStateMachine):
    @initialize(blocks_max=st.sampled_from([5, 1000]))
    def start(self, blocks_max: int) -> None:
        self.cache = _native.EngineCache(blocks_max)
        self.model = Model(blocks_max)
        self.fresh = 1000

    @rule(back=st.integers(0, 4), parts=st.lists(st.integers(1, 6), min_size=1, max_size=3))
    def prefill(self, back: int, parts: list[int]) -> None:
        """New blocks, in several pieces, after the end of an earlier run or from the beginning."""
        run = self.model.runs.get(self.model.next_run - 1 - back)
        parent = run.leaf if run else None
        stored = []
        for count in parts:
            hashes = list(range(self.fresh, self.fresh + count))
            stored.append(["BlockStored", hashes, parent, [1] * 16 * count, 16])
            self.fresh += count
            parent = hashes[-1]
        self.apply(stored)

    @rule(back=st.integers(0, 6))
    def evict(self, back: int) -> None:
        run = self.model.runs.get(self.model.next_run - 1 - back)
        if run is not None:
            self.apply([["BlockRemoved", [run.leaf], "GPU"]])

    @rule(events=events)
    def apply(self, events: list[list[Any]]) -> None:
        assert set(self.cache.apply(batch(events), 1.0).lost.tolist()) == self.model.apply(events)

    @rule(events=events)
    def clear(self, events: list[list[Any]]) -> None:
        self.apply([["AllBlocksCleared"], *events])

    @rule(tokens=st.integers(0, 200), keys=prompts)
    def candidates(self, tokens: int, keys: list[int]) -> None:
        found = self.cache.candidates(tokens, 1.0, 1.0, np.array(keys, dtype=np.uint64))
        assert found == self.model.candidates(tokens, keys)
        assert not self.cache.candidates(tokens, 1.1, 2.0, np.array(keys, dtype=np.uint64))

    @rule(back=st.integers(0, 3), keys=prompts, extra=st.integers(0, 15), density=st.floats(1, 40))
    def bind(self, back: int, keys: list[int], extra: int, density: float) -> None:
        number = max(0, self.model.next_run - 1 - back)
        run = self.model.runs.get(number)
        tokens = run.end + extra if run else 100
        prompt_bytes = int(tokens * density)
        bound = self.cache.bind(number, np.array(keys, dtype=np.uint64), tokens, prompt_bytes)
        assert bound == self.model.bind(number, keys, tokens, prompt_bytes)

    @invariant()
    def sizes_agree(self) -> None:
        if not hasattr(self, "cache"):
            return
        assert len(self.cache) == len(self.model.blocks) <= self.model.blocks_max
        assert self.cache.tokens == sum(block.tokens for block in self.model.blocks.values())
        bound = self.model.bound()
        assert self.cache.bound == len(bound)
        everything = np.arange(KEYS, dtype=np.uint64)
        assert set(self.cache.unbound(everything).tolist()) == set(range(KEYS)) - bound


TestComparison = Comparison.TestCase
TestComparison.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(garbage=st.binary(max_size=60) | values.map(msgspec.msgpack.encode))
def test_garbage_changes_nothing(garbage: bytes) -> None:
    cache = _native.EngineCache(100)
    try:
        applied = cache.apply(garbage, 0.0)
    except ValueError:
        pass
    else:
        assert applied.stored == 0
    assert len(cache) == 0


@given(
    values=st.lists(values, max_size=3),
    cut=st.integers(0, 400),
    changed=st.tuples(st.integers(0, 400), st.integers(0, 255)),
)
def test_damaged_batches_are_read_or_refused(
    values: list[Any], cut: int, changed: tuple[int, int]
) -> None:
    event = ["BlockStored", [1, b"x" * 32, -5], None, list(range(48)), 16, None, "GPU", None]
    whole = batch([event, *values, ["BlockRemoved", [1], "GPU"]])
    damaged = bytearray(whole[: max(1, len(whole) - cut)])
    damaged[changed[0] % len(damaged)] = changed[1]
    for given_bytes in (bytes(damaged), whole):
        cache = _native.EngineCache(100)
        try:
            applied = cache.apply(given_bytes, 0.0)
        except ValueError:
            assert len(cache) == 0
        else:
            assert len(cache) <= applied.stored
    assert len(cache) == 2


def test_values_of_any_depth_are_passed_over() -> None:
    nested = b"\x91" * 100_000 + b"\xc0"
    cache = _native.EngineCache(100)
    deep = (
        b"\x93\xcb" + bytes(8) + b"\x92" + nested + batch([["BlockStored", [1], None, [], 16]])[11:]
    )
    applied = cache.apply(deep + b"\xc0", 0.0)
    assert applied.unread == 1
    assert applied.stored == 1


def test_only_the_newest_bindings_of_a_block_are_kept() -> None:
    cache = _native.EngineCache(100)
    cache.apply(batch([["BlockStored", [1], None, [], 1024]]), 0.0)
    keys = np.arange(12, dtype=np.uint64)
    assert cache.bind(0, keys, 1024, 4096) == 12
    assert cache.unbound(keys).tolist() == [0, 1, 2, 3]
    assert sorted(cache.apply(batch([["BlockRemoved", [1]]]), 0.0).lost.tolist()) == [*range(4, 12)]
