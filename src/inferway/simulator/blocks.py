"""The KV cache as a router sees it: which prompt blocks an engine still holds.

vLLM keys every full block by a hash chained over its predecessors, shares it between requests by
reference count, and leaves blocks that nobody references in the pool as a cache until their room
is needed. Only counts and keys matter for timing, so blocks have no identity here: a *private*
block is one that is allocated but not shared under a key.

Invariants: referenced + idle + unused = total; referenced never exceeds total; a key is either
referenced or idle. Two requests that compute the same block at the same time keep one copy each,
as in vLLM.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from .cache_journal import CacheJournal


class BlockCache:
    """Reference-counted blocks with a least-recently-used list of those that nobody references."""

    __slots__ = ("_idle", "_journal", "_private", "_references", "evictions", "total")

    def __init__(self, total: int, journal: CacheJournal | None = None) -> None:
        self.total = total
        self._journal = journal
        self.evictions = 0
        self._private = 0
        self._references: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def referenced(self) -> int:
        """Blocks that running requests hold."""
        return len(self._references) + self._private

    @property
    def available(self) -> int:
        """Blocks that can be handed out, evicting idle ones where needed."""
        return self.total - len(self._references) - self._private

    @property
    def idle(self) -> int:
        """Blocks that are cached but not referenced."""
        return len(self._idle)

    @property
    def usage_ratio(self) -> float:
        """Referenced share of all blocks; idle ones count as free, as in vLLM's
        kv_cache_usage_perc.
        """
        return self.referenced / self.total

    def match(self, hashes: Sequence[int], blocks_max: int) -> int:
        """How many leading blocks are present."""
        references, idle = self._references, self._idle
        for index in range(min(blocks_max, len(hashes))):
            key = hashes[index]
            if key not in references and key not in idle:
                return index
        return min(blocks_max, len(hashes))

    def acquire(self, cached: Sequence[int], fresh: int) -> bool:
        """References the cached blocks and allocates `fresh` private ones; all of it or nothing."""
        references, idle = self._references, self._idle
        woken = sum(1 for key in cached if key not in references)
        if self.available - woken < fresh:
            return False
        for key in cached:
            count = references.get(key, 0)
            if not count:
                del idle[key]
            references[key] = count + 1
        return self.grow(fresh)

    def grow(self, count: int) -> bool:
        """Allocates private blocks, evicting the least recently used idle ones; False when they do
        not fit.
        """
        if self.available < count:
            return False
        self._private += count
        excess = self.referenced + len(self._idle) - self.total
        for _ in range(excess):
            key, _ = self._idle.popitem(last=False)
            if self._journal is not None:
                self._journal.removed(key)
        self.evictions += max(0, excess)
        return True

    def commit(self, key: int) -> bool:
        """Shares a private block under its key. False when that key is present already: the copy
        stays private.
        """
        if key in self._references or key in self._idle:
            return False
        self._private -= 1
        self._references[key] = 1
        return True

    def release(self, shared: Iterable[int], private: int) -> None:
        """Gives blocks back. `shared` is given leaf first, so that the leaves are evicted first."""
        self._private -= private
        references, idle = self._references, self._idle
        for key in shared:
            count = references[key] - 1
            if count:
                references[key] = count
            else:
                del references[key]
                idle[key] = None

    def forget_idle(self) -> None:
        """Empties the cache, not the running requests."""
        if self._journal is not None:
            if not self._references:
                self._journal.cleared()
            else:
                for key in self._idle:
                    self._journal.removed(key)
        self._idle.clear()
