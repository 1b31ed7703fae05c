"""What happened in an engine's block cache, in the terms of vLLM's KV cache events.

The engine writes the journal while it computes; whoever publishes it takes what has gathered. An
engine without a reader has no journal and pays nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockStored:
    """Neighbouring blocks of one sequence can now be found by others."""

    block_hashes: tuple[int, ...]
    parent_block_hash: int | None
    token_ids: tuple[int, ...]
    """Of all blocks; none when the request did not bring its tokens."""
    block_size: int


@dataclass(frozen=True, slots=True)
class BlockRemoved:
    block_hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AllBlocksCleared:
    pass


CacheEvent = BlockStored | BlockRemoved | AllBlocksCleared


class CacheJournal:
    """Events since the last `take`, in order."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: list[CacheEvent] = []

    def stored(
        self, hashes: Sequence[int], parent: int | None, token_ids: Sequence[int], block_size: int
    ) -> None:
        self._events.append(BlockStored(tuple(hashes), parent, tuple(token_ids), block_size))

    def removed(self, key: int) -> None:
        """One event per block, as vLLM evicts them."""
        self._events.append(BlockRemoved((key,)))

    def cleared(self) -> None:
        self._events.append(AllBlocksCleared())

    def take(self) -> list[CacheEvent]:
        events, self._events = self._events, []
        return events
