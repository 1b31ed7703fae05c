"""All that engines' events say, and what follows for the prefix index.

Problem: the index guesses what engines hold from what was sent to them; events tell what they
stored and evicted, in blocks of their own. Model: `EventBook` keeps an `EngineCache` for each
data-parallel rank of each endpoint that publishes. A prompt that ended is looked for among the
stored runs a moment later (association.py), bound to what it was, and put into the index as far as
the engine has it. Blocks that an engine evicts leave the index, a cleared cache leaves it whole.
Invariants: an endpoint without events is as before; only evictions of bound blocks take anything
away, but a clear or restart of the only rank takes all; a block that another rank still has stays;
an engine that holds more than its metrics say has that capacity. No I/O here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from inferway._native import EngineCache
from inferway.picker.datalayer.kv_events.association import Candidate, Prompt, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

# Events reach us within this time of the first token, however busy the picker is; a run may be
# published earlier, at most as long before as a request waits.
LATE_S: Final = 0.25
PROMPTS_WAITING_MAX: Final = 10_000
ENGINE_BLOCKS_MAX: Final = 1 << 20  # of one rank; 48 bytes each


class Served(Protocol):
    """The part of a `Charge` that is used here."""

    address: str
    model: str
    prompt_bytes: int


class Ended(Protocol):
    """The part of `_native.Done` that is used here."""

    @property
    def endpoint(self) -> str: ...
    @property
    def ttft_us(self) -> int: ...
    @property
    def duration_us(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...


class Index(Protocol):
    """The prefix index by address: `PrefixStore`."""

    def seed(self, model: str) -> int: ...
    def seen(self, address: str, held_bytes: int) -> None: ...
    def confirm(self, address: str, hashes: NDArray[np.uint64], model: str) -> None: ...
    def evicted(self, address: str, keys: NDArray[np.uint64]) -> None: ...
    def cleared(self, address: str) -> None: ...


@dataclass(slots=True)
class Counters:
    """Of all endpoints, since the start."""

    events: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("stored", "removed", "cleared", "orphan", "elsewhere", "not_understood"), 0
        )
    )
    batches: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("applied", "garbage"), 0)
    )
    prompts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("bound", "ambiguous", "not_found", "skipped"), 0)
    )
    evicted: int = 0


class _Waiting(NamedTuple):
    due_s: float
    address: str
    model: str
    prompt: Prompt
    first_s: float
    tokens: int
    prompt_bytes: int


class EventBook:
    """`index` gives the prefix index that is in force."""

    def __init__(self, index: Callable[[], Index]) -> None:
        self._index = index
        self.counters = Counters()
        # Address to one cache per rank. Truth value and membership are read per pick.
        self.engines: dict[str, list[EngineCache]] = {}
        self._waiting: deque[_Waiting] = deque()

    def configure(self, ranks: Mapping[str, int]) -> None:
        """Endpoints that publish, with their ranks. What is known of those that stay is kept."""
        self.engines = {
            address: found
            if (found := self.engines.get(address)) is not None and len(found) == count
            else [EngineCache(ENGINE_BLOCKS_MAX) for _ in range(count)]
            for address, count in ranks.items()
        }

    @property
    def blocks(self) -> int:
        """Of all engines."""
        return sum(len(cache) for ranks in self.engines.values() for cache in ranks)

    @property
    def memory_bytes(self) -> int:
        return sum(one.memory_bytes() for ranks in self.engines.values() for one in ranks)

    @property
    def next_due_s(self) -> float | None:
        """When `settle` has something to do."""
        return self._waiting[0].due_s if self._waiting else None

    def apply(self, address: str, rank: int, batch: bytes, now_s: float) -> None:
        """One published batch, in its order."""
        counters = self.counters
        try:
            applied = self.engines[address][rank].apply(batch, now_s)
        except ValueError:
            counters.batches["garbage"] += 1
            return
        counters.batches["applied"] += 1
        events = counters.events
        events["stored"] += applied.stored
        events["removed"] += applied.removed
        events["orphan"] += applied.orphans
        events["elsewhere"] += applied.ignored
        events["not_understood"] += applied.unread
        if applied.cleared:
            events["cleared"] += 1
            self._cleared(address, rank, applied.lost)
        elif len(applied.lost):
            self._evicted(address, rank, applied.lost)

    def forget(self, address: str, rank: int, *, restarted: bool) -> None:
        """Events were missed for good, or (`restarted`) the engine begins anew."""
        lost = self.engines[address][rank].clear()
        if restarted:
            self._cleared(address, rank, lost)

    def restarted(self, address: str) -> None:
        """The endpoint's metrics say that it lost its cache."""
        for cache in self.engines.get(address, ()):
            cache.clear()

    def placed(self, address: str, hashes: NDArray[np.uint64], now_s: float) -> Prompt | None:
        """What is to be remembered of a request until it ends."""
        return Prompt(now_s, hashes) if address in self.engines and len(hashes) else None

    def ended(self, charge: Served, done: Ended, prompt: Prompt, now_s: float) -> None:
        """A prompt was answered, and its usage is known."""
        address = done.endpoint or charge.address
        if address not in self.engines or not done.ttft_us:
            return
        if len(self._waiting) >= PROMPTS_WAITING_MAX:
            self._waiting.popleft()
            self.counters.prompts["skipped"] += 1
        self._waiting.append(
            _Waiting(
                now_s + LATE_S,
                address,
                charge.model,
                prompt,
                now_s - (done.duration_us - done.ttft_us) / 1e6,
                done.prompt_tokens,
                charge.prompt_bytes,
            )
        )

    def settle(self, now_s: float) -> None:
        """Looks for the runs of prompts whose events must have come by now."""
        while self._waiting and self._waiting[0].due_s <= now_s:
            self._find(self._waiting.popleft())

    def _find(self, waiting: _Waiting) -> None:
        caches = self.engines.get(waiting.address, ())
        keys = waiting.prompt.hashes ^ np.uint64(self._index().seed(waiting.model))
        since_s, until_s = waiting.prompt.placed_s, waiting.first_s + LATE_S
        found = {
            (rank, one[0]): Candidate(*one)
            for rank, cache in enumerate(caches)
            for one in cache.candidates(waiting.tokens, since_s, until_s, keys)
        }
        chosen, several = choose(found.values())
        if chosen is None:
            self.counters.prompts["ambiguous" if several else "not_found"] += 1
            return
        rank = next(rank for (rank, _), one in found.items() if one is chosen)
        blocks = caches[rank].bind(chosen.run, keys, waiting.tokens, waiting.prompt_bytes)
        self.counters.prompts["bound"] += 1
        held_tokens = sum(cache.tokens for cache in caches)
        self._index().seen(
            waiting.address, held_tokens * waiting.prompt_bytes // max(1, waiting.tokens)
        )
        if blocks:
            self._index().confirm(waiting.address, waiting.prompt.hashes[:blocks], waiting.model)

    def _evicted(self, address: str, rank: int, keys: NDArray[np.uint64]) -> None:
        for other, cache in enumerate(self.engines[address]):
            if other != rank and len(keys):
                keys = cache.unbound(keys)
        self.counters.evicted += len(keys)
        if len(keys):
            self._index().evicted(address, keys)

    def _cleared(self, address: str, rank: int, lost: NDArray[np.uint64]) -> None:
        if len(self.engines[address]) == 1:
            self._index().cleared(address)
        else:
            self._evicted(address, rank, lost)
