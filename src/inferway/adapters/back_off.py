"""When to try again what failed: a pause that doubles. Pure; the caller has the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable


@dataclass(frozen=True, slots=True)
class _Pause:
    until_s: float
    length_s: float


@dataclass(slots=True)
class BackOff:
    """Of each thing that failed, until when it is left alone."""

    first_s: float
    longest_s: float
    _pauses: dict[Hashable, _Pause] = field(default_factory=dict)

    def is_due(self, thing: Hashable, now_s: float) -> bool:
        pause = self._pauses.get(thing)
        return pause is None or now_s >= pause.until_s

    def failed(self, thing: Hashable, now_s: float) -> float:
        """The pause that follows, in seconds."""
        before = self._pauses.get(thing)
        length_s = min(before.length_s * 2, self.longest_s) if before else self.first_s
        self._pauses[thing] = _Pause(now_s + length_s, length_s)
        return length_s

    def keep(self, things: Collection[Hashable]) -> None:
        """Forgets everything else: it worked, or nobody wants it any more."""
        self._pauses = {one: pause for one, pause in self._pauses.items() if one in things}
