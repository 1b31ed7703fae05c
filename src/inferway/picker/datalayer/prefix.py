"""Which endpoint probably has which prompt cached.

Problem: the index names endpoints by small numbers for ever, while rows move when a pool changes
and one address may stand in several pools. Model: `PrefixStore` owns the one index of the process
and gives every address a slot for as long as some pool has it; `PoolPrefix` translates between the
slots and the rows of one pool. Invariants: a slot is cleared before it is given to another address;
memory is bounded by the index itself. The model's name is part of the key, so pools that serve
different models never see each other's prompts. The capacity is the engine's own, and a restarted
engine is forgotten (`restarted`). Of real evictions it learns only where the engine publishes them
(kv_events/book.py); elsewhere the least recently used are taken to be gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from inferway.picker.datalayer.estimates import BYTES_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from inferway.picker.datalayer.engines import Reading
    from inferway.picker.scheduling.contracts import Floats

# What the reference picker assumes of an engine that does not tell: 31,250 blocks of 16 tokens.
CACHE_TOKENS = 31_250 * 16
_SEEDS_MAX = 4096
_CAPACITY_STEP = 0.05  # a smaller relative change is not worth an eviction sweep


class BlockIndex(Protocol):
    """The part of `_native.PrefixIndex` that is used here."""

    def set_capacity(self, endpoint: int, bytes_max: int) -> None: ...
    def match(self, hashes: NDArray[np.uint64], seed: int, endpoints: int) -> Floats: ...
    def insert(self, endpoint: int, hashes: NDArray[np.uint64], seed: int) -> None: ...
    def remove(self, endpoint: int, keys: NDArray[np.uint64]) -> None: ...
    def clear(self, endpoint: int) -> None: ...


class PrefixStore:
    """`seed_of` is `_native.hash_seed`."""

    def __init__(self, index: BlockIndex, seed_of: Callable[[str], int]) -> None:
        self._index = index
        self._seed_of = seed_of
        self._seeds: dict[str, int] = {}
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._capacity: dict[str, int] = {}
        self._seen: dict[str, int] = {}  # bytes that an engine was seen to hold
        self._last: dict[str, Reading] = {}

    def rebind(self, addresses: Iterable[str]) -> None:
        """The addresses of all pools: new ones get a slot, vanished ones are forgotten."""
        wanted = dict.fromkeys(addresses)
        for address in [a for a in self._slots if a not in wanted]:
            slot = self._slots.pop(address)
            self._index.clear(slot)
            self._free.append(slot)
            self._last.pop(address, None)
            self._seen.pop(address, None)
            del self._capacity[address]
        for address in wanted:
            if address not in self._slots:
                slot = self._free.pop() if self._free else len(self._slots)
                self._slots[address] = slot
                self._set_capacity(address, int(CACHE_TOKENS * BYTES_PER_TOKEN))

    def pool(self, addresses: Sequence[str]) -> PoolPrefix:
        """Valid until the next `rebind`."""
        return PoolPrefix(self._index, self.seed, [self._slots[address] for address in addresses])

    def record(self, address: str, reading: Reading, bytes_per_token: float) -> bool:
        """Takes over a scrape: the engine's capacity, and whether it restarted (returned)."""
        last = self._last.get(address)
        self._last[address] = reading
        if address not in self._slots:
            return False
        tokens = reading.cache_tokens
        if tokens is not None:
            bytes_max = max(int(tokens * bytes_per_token), self._seen.get(address, 0))
            if abs(bytes_max - self._capacity[address]) > _CAPACITY_STEP * self._capacity[address]:
                self._set_capacity(address, bytes_max)
        if last is None or not restarted(last, reading):
            return False
        self._index.clear(self._slots[address])
        return True

    def confirm(self, address: str, hashes: NDArray[np.uint64], model: str) -> None:
        """The engine is known to have this beginning of a prompt."""
        slot = self._slots.get(address)
        if slot is not None:
            self._index.insert(slot, hashes, self.seed(model))

    def seen(self, address: str, held_bytes: int) -> None:
        """The engine holds so much, whatever its metrics say."""
        capacity = self._capacity.get(address)
        if capacity is not None and held_bytes > (1 + _CAPACITY_STEP) * capacity:
            self._seen[address] = held_bytes
            self._set_capacity(address, held_bytes)

    def evicted(self, address: str, keys: NDArray[np.uint64]) -> None:
        """The engine has these blocks no more. A key is a hash ^ the model's seed."""
        slot = self._slots.get(address)
        if slot is not None:
            self._index.remove(slot, keys)

    def cleared(self, address: str) -> None:
        """The engine's cache is empty."""
        slot = self._slots.get(address)
        if slot is not None:
            self._index.clear(slot)

    def _set_capacity(self, address: str, bytes_max: int) -> None:
        self._capacity[address] = bytes_max
        self._index.set_capacity(self._slots[address], bytes_max)

    def seed(self, model: str) -> int:
        """The model's part of the index keys."""
        seed = self._seeds.get(model)
        if seed is None:
            if len(self._seeds) >= _SEEDS_MAX:
                self._seeds.clear()
            seed = self._seeds[model] = self._seed_of(model)
        return seed


class PoolPrefix:
    """The index as one pool sees it: rows, not slots. `nothing` is the answer without a match."""

    def __init__(self, index: BlockIndex, seed_of: Callable[[str], int], slots: list[int]) -> None:
        self._index = index
        self._seed_of = seed_of
        self._slots = slots
        self._slots_end = max(slots, default=-1) + 1
        self._in_order = slots == list(range(len(slots)))
        self._columns = np.array(slots, dtype=np.intp)
        self.nothing = np.zeros(len(slots))
        self._nothing = self.nothing.tobytes()

    def match(self, hashes: NDArray[np.uint64], model: str) -> Floats:
        """Bytes of the prompt's beginning that each row probably has cached, shape (N,).

        The caller may change the array, unless it is `nothing`.
        """
        if not len(hashes):
            return self.nothing
        found = self._index.match(hashes, self._seed_of(model), self._slots_end)
        if not self._in_order:
            found = found[self._columns]
        return self.nothing if found.tobytes() == self._nothing else found

    def insert(self, row: int, hashes: NDArray[np.uint64], model: str) -> None:
        if len(hashes):
            self._index.insert(self._slots[row], hashes, self._seed_of(model))


def restarted(last: Reading, now: Reading) -> bool:
    """Whether the engine lost its cache between two scrapes."""
    started, progress = (last.started_at_s, now.started_at_s), (last.progress, now.progress)
    if started[0] is not None and started[1] is not None and started[1] > started[0] + 1.0:
        return True
    return progress[0] is not None and progress[1] is not None and progress[1] < progress[0]
