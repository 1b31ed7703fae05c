"""Batches of KV cache events, byte for byte, as engines of several makes publish them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inferway import _native
from inferway.simulator.cache_journal import AllBlocksCleared, BlockRemoved, BlockStored
from inferway.simulator.kv_publisher import encode_batch

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "kv_events.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vectors_are_read(vector: dict[str, object]) -> None:
    cache = _native.EngineCache(100)
    applied = cache.apply(bytes.fromhex(str(vector["bytes"])), 0.0)
    done = {
        name: getattr(applied, name)
        for name in ("stored", "removed", "orphans", "ignored", "unread", "cleared")
    }
    assert {**done, "held": len(cache), "tokens": cache.tokens} == vector["read"]


@pytest.mark.parametrize("shape", ["arrays", "maps"])
def test_the_simulator_writes_the_vectors(shape: str) -> None:
    events = [
        BlockStored((1, 2**64 - 1), None, tuple(range(32)), 16),
        BlockStored((3,), 2**64 - 1, tuple(range(16)), 16),
        BlockRemoved((3,)),
        AllBlocksCleared(),
    ]
    written = encode_batch(events, at_s=1.5, rank=0, shape=shape)  # type: ignore[arg-type]
    (vector,) = [one for one in VECTORS if one["name"] == f"vllm {shape}"]
    assert written.hex() == vector["bytes"]


def test_bytes_and_numbers_name_the_same_block() -> None:
    """vLLM publishes a hash as 32 bytes or as the number that their last eight make."""
    (stored, removed) = (one for one in VECTORS if one["name"].startswith("hash as"))
    cache = _native.EngineCache(100)
    cache.apply(bytes.fromhex(stored["bytes"]), 0.0)
    assert cache.apply(bytes.fromhex(removed["bytes"]), 0.0).removed == 1
    assert len(cache) == 0


def test_a_batch_is_bytes_with_a_list_of_events() -> None:
    cache = _native.EngineCache(100)
    for garbage in (b"", b"\xc0", b"\x91\x01", b"\x80", b"{}", b"\x93\x01\x02\x03"):
        with pytest.raises(ValueError, match="not a batch"):
            cache.apply(garbage, 0.0)
    with pytest.raises(ValueError, match="blocks_max: 0"):
        _native.EngineCache(0)


def test_ranks_are_not_mixed() -> None:
    cache = _native.EngineCache(100)
    events = [BlockStored((1,), None, (), 16)]
    cache.apply(encode_batch(events, at_s=0.0, rank=1), 0.0)
    with pytest.raises(ValueError, match="of this rank"):
        cache.apply(encode_batch([AllBlocksCleared()], at_s=0.0, rank=0), 0.0)
    assert len(cache) == 1
    cache.clear()  # whatever publishes after a restart
    cache.apply(encode_batch(events, at_s=0.0, rank=0), 0.0)


def test_a_binding_ends_where_the_last_full_block_does() -> None:
    """1,000 bytes in 250 tokens: of the 4-byte tokens, 15 blocks of 16 are full, which are 960
    bytes; so three blocks of 256 bytes are cached and the fourth is not.
    """
    cache = _native.EngineCache(100)
    events = [BlockStored(tuple(range(15)), None, (), 16)]
    cache.apply(encode_batch(events, at_s=0.0, rank=0), 7.0)
    keys = np.array([10, 11, 12, 13], dtype=np.uint64)
    assert cache.candidates(250, 7.0, 7.0, keys) == [(0, 240, 0, 0)]
    assert cache.bind(0, keys, 250, 1000) == 3
    assert cache.candidates(250, 7.0, 7.0, keys) == []
    gone = encode_batch([BlockRemoved((11,)), BlockRemoved((14,))], at_s=0.0, rank=0)
    assert cache.apply(gone, 8.0).lost.tolist() == [12]  # bytes 513 to 768 end in block 11
