"""What an engine writes down of its block cache is what the cache holds."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from inferway.simulator.cache_journal import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    CacheEvent,
    CacheJournal,
)
from inferway.simulator.engine import Engine
from inferway.simulator.parameters import parameters_named
from inferway.simulator.sequences import EngineRequest

SMALL = replace(
    parameters_named("llama-3-8b-h100"),
    num_blocks=60,
    max_model_len=400,
    max_num_batched_tokens=96,
    jitter_sigma=0.0,
)


def present(engine: Engine) -> set[int]:
    return set(engine.blocks._references) | set(engine.blocks._idle)


def applied(held: set[int], events: list[CacheEvent]) -> None:
    for event in events:
        match event:
            case BlockStored():
                assert not held & set(event.block_hashes)
                held |= set(event.block_hashes)
            case BlockRemoved():
                assert set(event.block_hashes) <= held
                held -= set(event.block_hashes)
            case AllBlocksCleared():
                held.clear()


@pytest.mark.parametrize("seed", range(3))
def test_the_journal_follows_the_cache(seed: int) -> None:
    source = random.Random(seed)
    journal = CacheJournal()
    engine = Engine(SMALL, journal=journal)
    held: set[int] = set()
    now_s = 0.0
    removals = 0
    for number in range(150):
        family, length = source.randrange(4), source.randrange(20, 250)
        blocks = (length + 40) // 16
        shared = source.randrange(blocks)
        hashes = [1000 * (family + 1) + n for n in range(shared)]
        hashes += [100_000 * (number + 1) + n for n in range(shared, blocks)]
        engine.submit(EngineRequest(str(number), length, 40, hashes), now_s)
        for _ in range(source.randrange(8)):
            now_s = engine.step(now_s).ended_s
            events = journal.take()
            removals += sum(isinstance(event, BlockRemoved) for event in events)
            applied(held, events)
            assert held == present(engine)
    assert removals > 50
    engine.blocks.forget_idle()
    applied(held, journal.take())
    assert held == present(engine)


def test_pieces_of_a_prompt_name_their_parent_and_their_tokens() -> None:
    journal = CacheJournal()
    engine = Engine(SMALL, journal=journal)
    request = EngineRequest("1", 150, 1, [*range(1, 10)], token_ids=range(151))
    engine.submit(request, 0.0)
    now_s = 0.0
    while engine.has_work:
        now_s = engine.step(now_s).ended_s
    first, second = journal.take()
    assert first == BlockStored((1, 2, 3, 4, 5, 6), None, tuple(range(96)), 16)
    assert second == BlockStored((7, 8, 9), 6, tuple(range(96, 144)), 16)
    engine.blocks.forget_idle()
    assert journal.take() == [AllBlocksCleared()]
