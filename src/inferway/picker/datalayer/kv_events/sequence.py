"""Which batches of one publisher count, in which order.

Problem: a publisher numbers its batches, but a subscriber that joins late, is slow or loses its
connection misses some, and a publisher that restarts begins again at 0. Model: `Sequence` is told
what arrives and says what to do: apply a batch, ask for those from a number on, or forget what was
learnt. While a replay runs, live batches wait. A gap or a new connection may hide a restart, so a
replay begins with the batch that was applied last: if that is another one now, so is the publisher.
Invariants: batches are applied in order, each at most once; whatever is applied after a loss that
could not be made good comes after a `Forget`; what waits is bounded. No I/O and no clock: who gives
up on a replay says so.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

HELD_BATCHES_MAX: Final = 10_000


class Apply(NamedTuple):
    batch: bytes


class Ask(NamedTuple):
    """For all batches from this number on."""

    since: int


class Forget(NamedTuple):
    """`restarted`: the engine's cache is empty; otherwise only our knowledge of it is."""

    restarted: bool


Action = Apply | Ask | Forget


class Sequence:
    """Of one publisher. `replays`: whether it can be asked for old batches."""

    def __init__(self, *, replays: bool, held_max: int = HELD_BATCHES_MAX) -> None:
        self.gaps = 0
        self.losses = 0
        self.restarts = 0
        self._replays = replays
        self._held_max = held_max
        self._expected = 0
        self._newest = -1  # of live batches
        self._last: bytes | None = None  # what was applied last
        self._doubtful = False  # the connection is another one since
        self._held: deque[tuple[int, bytes]] | None = None  # while a replay runs, never empty

    @property
    def replaying(self) -> bool:
        return self._held is not None

    def reconnected(self) -> None:
        """Another process may have the address now."""
        self._doubtful = self._replays and self._last is not None

    def live(self, number: int, batch: bytes) -> list[Action]:
        """A batch that was just published."""
        if number <= self._newest:
            self._held = None
            return self._restart(number, batch)
        self._newest = number
        if self._held is not None:
            if len(self._held) < self._held_max:
                self._held.append((number, batch))
                return []
            return [*self.replay_ended(), *self._next(number, batch)]
        return self._next(number, batch)

    def replayed(self, number: int, batch: bytes) -> list[Action]:
        """An old batch that was asked for."""
        if self._held is None:
            return []
        if number == self._expected - 1 and self._last not in (None, batch):
            return [self._begin_anew(), Ask(0)]
        if number < self._expected:
            return []
        return [*self._skip_to(number), self._apply(batch)]

    def replay_ended(self) -> list[Action]:
        """All that there was has come, or nothing more is waited for."""
        held, self._held = self._held or (), None
        actions: list[Action] = []
        for number, batch in held:
            if number >= self._expected:
                actions += [*self._skip_to(number), self._apply(batch)]
        return actions

    def _next(self, number: int, batch: bytes) -> list[Action]:
        if number < self._expected:  # a replay was faster
            return []
        doubtful, self._doubtful = self._doubtful, False
        if number == self._expected and not doubtful:
            return [self._apply(batch)]
        self.gaps += number > self._expected
        return self._catch_up(number, batch)

    def _restart(self, number: int, batch: bytes) -> list[Action]:
        self._newest = number
        forget = self._begin_anew()
        if number == 0:
            return [forget, self._apply(batch)]
        return [forget, *self._catch_up(number, batch)]

    def _begin_anew(self) -> Forget:
        self.restarts += 1
        self._expected, self._last = 0, None
        return Forget(restarted=True)

    def _catch_up(self, number: int, batch: bytes) -> list[Action]:
        if self._replays:
            self._held = deque([(number, batch)])
            return [Ask(max(0, self._expected - 1))]
        return [*self._skip_to(number), self._apply(batch)]

    def _skip_to(self, number: int) -> list[Action]:
        """What lies before is lost. Nothing can be lost of what was never begun."""
        if number == self._expected:
            return []
        self._expected = number
        if self._last is None:
            return []
        self.losses += 1
        return [Forget(restarted=False)]

    def _apply(self, batch: bytes) -> Apply:
        self._expected += 1
        self._last = batch
        return Apply(batch)
