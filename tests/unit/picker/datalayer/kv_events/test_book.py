"""What engines' events do to the prefix index: learnt, evicted, cleared, left alone when unsure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway import _native
from inferway.picker.datalayer.engines import Reading
from inferway.picker.datalayer.kv_events.association import Candidate, choose
from inferway.picker.datalayer.kv_events.book import LATE_S, EventBook
from inferway.picker.datalayer.prefix import PrefixStore
from inferway.simulator.cache_journal import AllBlocksCleared, BlockRemoved, BlockStored, CacheEvent
from inferway.simulator.kv_publisher import encode_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

ADDRESS, OTHER = "10.0.0.1:8000", "10.0.0.2:8000"
MODEL = "m"
TOKENS = 480  # 30 blocks of 16; at 4 bytes each 1,920 bytes: 7 blocks of 256


@dataclass
class Charge:
    address: str = ADDRESS
    model: str = MODEL
    prompt_bytes: int = 4 * TOKENS


@dataclass
class Done:
    endpoint: str = ""
    ttft_us: int = 100_000
    duration_us: int = 100_000
    prompt_tokens: int = TOKENS


class World:
    """A book over a real index, with a clock that tests set."""

    def __init__(self, ranks: int = 1) -> None:
        self.index = _native.PrefixIndex(10_000)
        self.store = PrefixStore(self.index, _native.hash_seed)
        self.store.rebind([ADDRESS, OTHER])
        self.pool = self.store.pool([ADDRESS, OTHER])
        self.book = EventBook(lambda: self.store)
        self.book.configure({ADDRESS: ranks})
        self.now_s = 100.0

    def prompt(self, seed: int, blocks: int = 7) -> NDArray[np.uint64]:
        return np.random.default_rng(seed).integers(0, 2**63, blocks, dtype=np.uint64)

    def matched(self, hashes: NDArray[np.uint64]) -> list[float]:
        return self.pool.match(hashes, MODEL).tolist()

    def tell(self, *events: CacheEvent, rank: int = 0) -> None:
        batch = encode_batch(events, at_s=0.0, rank=rank)
        self.book.apply(ADDRESS, rank, batch, self.now_s)

    def serve(
        self,
        hashes: NDArray[np.uint64],
        *events: CacheEvent,
        rank: int = 0,
        charge: Charge | None = None,
        done: Done | None = None,
    ) -> None:
        """A pick, the events of its prefill, its end 0.1 s later, and the time until it settles."""
        self.pool.insert(0, hashes, MODEL)
        prompt = self.book.placed(ADDRESS, hashes, self.now_s)
        assert prompt is not None
        self.now_s += 0.1
        if events:
            self.tell(*events, rank=rank)
        self.book.ended(charge or Charge(), done or Done(), prompt, self.now_s)
        self.now_s += LATE_S + 0.01
        self.book.settle(self.now_s)


def stored(first: int, count: int = 30, parent: int | None = None) -> BlockStored:
    return BlockStored(tuple(range(first, first + count)), parent, (), 16)


def test_an_evicted_block_takes_its_prompt_block_along() -> None:
    world = World()
    prompt = world.prompt(1)
    world.serve(prompt, stored(1000))
    assert world.matched(prompt) == [1792.0, 0.0]
    assert world.book.counters.prompts["bound"] == 1
    world.tell(BlockRemoved((1029,)), BlockRemoved((1028,)))  # bytes 1,792 to 1,920
    assert world.matched(prompt) == [1792.0, 0.0]
    world.tell(BlockRemoved((1027,)))  # bytes 1,728 to 1,792
    assert world.matched(prompt) == [1536.0, 0.0]
    world.tell(*[BlockRemoved((block,)) for block in range(1026, 999, -1)])
    assert world.matched(prompt) == [0.0, 0.0]
    assert world.book.counters.evicted == 7
    assert len(world.index) == 0


def test_what_is_not_bound_stays_approximate() -> None:
    world = World()
    known, unknown = world.prompt(1), world.prompt(2)
    world.serve(known, stored(1000))
    world.serve(unknown)
    assert world.book.counters.prompts == {
        "bound": 1,
        "ambiguous": 0,
        "not_found": 1,
        "skipped": 0,
    }
    world.tell(*[BlockRemoved((block,)) for block in range(1029, 999, -1)])
    assert world.matched(known) == [0.0, 0.0]
    assert world.matched(unknown) == [1792.0, 0.0]


def test_a_bound_prompt_is_known_even_if_the_index_had_lost_it() -> None:
    world = World()
    prompt = world.prompt(1)
    world.index.set_capacity(0, 0)
    world.pool.insert(0, prompt, MODEL)
    world.index.set_capacity(0, 10**6)
    assert world.matched(prompt) == [0.0, 0.0]
    world.serve(prompt, stored(1000))
    assert world.matched(prompt) == [1792.0, 0.0]


def test_an_engine_that_holds_more_than_it_says_has_that_capacity() -> None:
    world = World()
    reading = Reading(block_size=16, num_blocks=30)  # 1,920 bytes
    world.store.record(ADDRESS, reading, 4.0)
    first, second = world.prompt(1), world.prompt(2)
    world.serve(first, stored(1000))
    world.serve(second, stored(2000))
    assert world.matched(first) == [0.0, 0.0]  # the second had taken its place before it was known
    world.serve(first)
    assert world.matched(first) == world.matched(second) == [1792.0, 0.0]
    world.store.record(ADDRESS, reading, 4.0)
    assert world.matched(first) == world.matched(second) == [1792.0, 0.0]


def test_the_next_turn_of_a_conversation_is_found_by_its_parent() -> None:
    """Two prompts of the same length at the same time; one goes on from a bound prompt."""
    world = World()
    first = world.prompt(1)
    world.serve(first, stored(1000))
    turn = np.concatenate([first, world.prompt(2)])
    events = (stored(5000, 60), stored(2000, 30, parent=1029))
    charge, done = Charge(prompt_bytes=8 * TOKENS), Done(prompt_tokens=2 * TOKENS)
    world.serve(turn, *events, charge=charge, done=done)
    assert world.book.counters.prompts["bound"] == 2
    world.tell(*[BlockRemoved((block,)) for block in range(5059, 4999, -1)])
    assert world.matched(turn) == [3584.0, 0.0]
    world.tell(*[BlockRemoved((block,)) for block in range(2029, 1999, -1)])
    assert world.matched(turn) == [1792.0, 0.0]


def test_two_that_could_be_it_are_left_alone() -> None:
    world = World()
    prompt = world.prompt(1)
    world.serve(prompt, stored(1000), stored(2000))
    assert world.book.counters.prompts["ambiguous"] == 1
    world.tell(BlockRemoved((1029,)), BlockRemoved((2029,)))
    assert world.matched(prompt) == [1792.0, 0.0]


def test_runs_of_another_time_are_not_it() -> None:
    world = World()
    world.tell(stored(1000))
    world.now_s += 1.0
    world.serve(world.prompt(1))
    world.now_s += 1.0
    done = Done(ttft_us=100_000, duration_us=5_100_000)  # its first token was 5 s ago
    world.serve(world.prompt(2), stored(2000), done=done)
    assert world.book.counters.prompts["not_found"] == 2


def test_a_cleared_cache_leaves_nothing() -> None:
    world = World()
    bound, loose = world.prompt(1), world.prompt(2)
    world.serve(bound, stored(1000))
    world.serve(loose)
    world.tell(AllBlocksCleared())
    assert world.matched(bound) == world.matched(loose) == [0.0, 0.0]
    world.serve(bound, stored(1000))
    world.book.forget(ADDRESS, 0, restarted=True)
    assert world.matched(bound) == [0.0, 0.0]


def test_lost_events_leave_the_index_approximate() -> None:
    world = World()
    prompt = world.prompt(1)
    world.serve(prompt, stored(1000))
    world.book.forget(ADDRESS, 0, restarted=False)
    assert world.matched(prompt) == [1792.0, 0.0]
    world.tell(BlockRemoved((1000,)))
    assert world.matched(prompt) == [1792.0, 0.0]
    assert world.book.blocks == 0


def test_ranks_behind_one_port_are_told_apart() -> None:
    """The same hashes on two ranks are two blocks; a prompt is gone when both have evicted it."""
    world = World(ranks=2)
    prompt = world.prompt(1)
    world.serve(prompt, stored(1000), rank=0)
    world.serve(prompt, stored(1000), rank=1)
    assert world.book.blocks == 60
    assert world.book.counters.prompts["bound"] == 2
    world.tell(*[BlockRemoved((block,)) for block in range(1029, 999, -1)], rank=1)
    assert world.matched(prompt) == [1792.0, 0.0]
    world.tell(AllBlocksCleared(), rank=0)
    assert world.matched(prompt) == [0.0, 0.0]


def test_the_endpoint_that_served_counts() -> None:
    """A retry went elsewhere: what the chosen one stores is not this prompt."""
    world = World()
    world.serve(world.prompt(1), stored(1000), done=Done(endpoint=OTHER))
    assert world.book.counters.prompts["bound"] == 0
    world.serve(world.prompt(2), stored(2000), done=Done(endpoint=ADDRESS))
    assert world.book.counters.prompts["bound"] == 1


def test_garbage_is_counted() -> None:
    world = World()
    world.book.apply(ADDRESS, 0, b"garbage", 1.0)
    assert world.book.counters.batches == {"applied": 0, "garbage": 1}


def test_endpoints_without_events_remember_nothing() -> None:
    world = World()
    assert world.book.placed(OTHER, world.prompt(1), 1.0) is None
    assert world.book.placed(ADDRESS, world.prompt(1, blocks=0), 1.0) is None
    kept = world.book.engines[ADDRESS]
    world.book.configure({ADDRESS: 1, OTHER: 1})
    assert world.book.engines[ADDRESS] is kept
    world.book.configure({})
    assert not world.book.engines


@pytest.mark.parametrize(
    ("candidates", "chosen", "several"),
    [
        ([], None, False),
        ([Candidate(1, 480, 0, 0)], 1, False),
        ([Candidate(1, 480, 0, 3)], None, False),  # another prompt's path
        ([Candidate(1, 480, 0, 3), Candidate(2, 480, 0, 0)], 2, False),
        ([Candidate(1, 480, 2, 8), Candidate(2, 480, 0, 0)], 1, False),
        ([Candidate(1, 480, 2, 0), Candidate(2, 64, 5, 4)], 2, False),
        ([Candidate(1, 480, 2, 0), Candidate(2, 480, 2, 0)], None, True),
    ],
)
def test_choice(candidates: list[Candidate], chosen: int | None, several: bool) -> None:
    found, ambiguous = choose(candidates)
    assert (found.run if found else None, ambiguous) == (chosen, several)
