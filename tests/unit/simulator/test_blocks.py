"""The block cache: sharing, eviction order, what counts as used."""

import pytest

from inferway.simulator.blocks import BlockCache


def hold(cache: BlockCache, keys: list[int]) -> None:
    """Computes blocks for these keys and keeps them referenced."""
    assert cache.acquire([], len(keys))
    for key in keys:
        assert cache.commit(key)


def test_blocks_are_found_only_as_a_prefix() -> None:
    cache = BlockCache(10)
    hold(cache, [1, 2, 3])
    assert cache.match([1, 2, 3, 4], 10) == 3
    assert cache.match([2, 3], 10) == 2
    assert cache.match([9, 1, 2], 10) == 0
    assert cache.match([1, 2, 3], 2) == 2


def test_unreferenced_blocks_count_as_free_but_stay() -> None:
    cache = BlockCache(4)
    hold(cache, [1, 2])
    assert cache.usage_ratio == 0.5
    cache.release([2, 1], 0)
    assert (cache.usage_ratio, cache.idle, cache.available) == (0.0, 2, 4)
    assert cache.match([1, 2], 10) == 2


def test_leaves_are_evicted_before_their_parents() -> None:
    cache = BlockCache(4)
    hold(cache, [1, 2, 3])
    cache.release([3, 2, 1], 0)
    assert cache.grow(2)
    assert cache.evictions == 1
    assert cache.match([1, 2, 3], 10) == 2


def test_the_least_recently_released_prompt_goes_first() -> None:
    cache = BlockCache(4)
    hold(cache, [1, 2])
    hold(cache, [8, 9])
    cache.release([2, 1], 0)
    cache.release([9, 8], 0)
    assert cache.grow(2)
    assert cache.match([1, 2], 10) == 0
    assert cache.match([8, 9], 10) == 2


def test_a_shared_block_lives_as_long_as_one_holder() -> None:
    cache = BlockCache(4)
    hold(cache, [1])
    assert cache.acquire([1], 1)
    assert cache.referenced == 2
    cache.release([1], 0)
    assert cache.referenced == 2
    cache.release([1], 1)
    assert (cache.referenced, cache.idle) == (0, 1)


def test_hits_are_not_evicted_to_make_room_for_their_own_request() -> None:
    cache = BlockCache(4)
    hold(cache, [1, 2])
    cache.release([2, 1], 0)
    assert not cache.acquire([1, 2], 3)
    assert (cache.referenced, cache.idle) == (0, 2)
    assert cache.acquire([1, 2], 2)
    assert (cache.referenced, cache.idle, cache.available) == (4, 0, 0)


def test_the_second_of_two_equal_blocks_stays_private() -> None:
    cache = BlockCache(4)
    hold(cache, [1])
    assert cache.acquire([], 1)
    assert not cache.commit(1)
    cache.release([], 1)
    assert cache.referenced == 1


def test_nothing_is_evicted_when_nothing_fits() -> None:
    cache = BlockCache(2)
    hold(cache, [1])
    cache.release([1], 0)
    assert not cache.grow(3)
    assert cache.match([1], 1) == 1


def test_forgetting_keeps_what_is_in_use() -> None:
    cache = BlockCache(4)
    hold(cache, [1])
    hold(cache, [2])
    cache.release([2], 0)
    cache.forget_idle()
    assert cache.match([1], 1) == 1
    assert cache.match([2], 1) == 0
    assert cache.usage_ratio == pytest.approx(0.25)
