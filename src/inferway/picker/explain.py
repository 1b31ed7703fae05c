"""What each decision saw, remembered for those who ask later.

Problem: "why did this request go there?" is asked afterwards, when nothing of that moment is left;
and writing it all down would cost more than the decision. Model: a ring of `Recorded`, which hold
references to what a decision used and what will not change (the request, scraped columns, costs,
masks), and a copy of what does change: accounting columns and ages. All that is shown is computed
from those when somebody asks (explained.py). Invariants: memory is bounded by number and by bytes,
and the oldest goes first; of a large pool only the endpoints that the answer names are kept; what
is recorded of a second is bounded too, so that a flood costs little and does not wash away all that
was before it; nothing here formats, searches or waits.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, overload

import numpy as np

from inferway.picker.outcome import Outcome
from inferway.picker.scheduling.contracts import Request
from inferway.picker.scheduling.decide import Weighed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferway._native import Done
    from inferway.picker.config import ExplainConfig
    from inferway.picker.scheduling.contracts import Floats, PickRequest, Random
    from inferway.picker.scheduling.profile import Profile

ENDPOINTS_WHOLE_MAX: Final = 256  # of a larger pool, only the rows that the answer names are kept
# Estimate of what a record takes besides columns and prompt: objects, strings, its end.
RECORD_BYTES: Final = 1_500
# Per endpoint: cost, raw value, match, age and four accounting columns; masks. As much again is
# counted for a decision that is the first after a scrape, for the columns that only it holds on to.
_ENDPOINT_BYTES: Final = 8 * 8 + 2
# A block of a prompt is at least 256 bytes, its hash is 8.
_PROMPT_SHIFT: Final = 5
_PICKED: Final = Outcome.PICKED
_WINDOW_S: Final = 0.1  # for which the number per second is shared out
CLIENT_LEFT: Final = "client_left"  # while it waited in the queue
_new = tuple.__new__


class Tape:
    """A pool's random numbers; `draws` are those since it was last set."""

    __slots__ = ("_rng", "draws")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.draws: list[float | Floats] = []

    @overload
    def random(self) -> float: ...
    @overload
    def random(self, size: int) -> Floats: ...
    def random(self, size: int | None = None) -> float | Floats:
        drawn = self._rng.random() if size is None else self._rng.random(size)
        self.draws.append(drawn)
        return drawn


class Choice(NamedTuple):
    """What a decision saw.

    `whole`: all arrays have one element per endpoint; else only `endpoints`, `candidates` and
    `removals` of `weighed` do, and the others one per row of `rows`.
    """

    profile: Profile
    weighed: Weighed
    rows: Sequence[int]  # best first; empty when nobody could be chosen
    load: bytes  # `Endpoints.load`, before the charge
    ages_s: bytes  # `Endpoints.metrics_age_s`
    tiers: bytes | None  # `Request.adapter_tier`
    sequence: int
    draws: Sequence[float | Floats]
    whole: bool


class Recorded:
    """One pick and what came of it. `choice` is None when it did not come to one."""

    __slots__ = (
        "at_s",
        "choice",
        "done",
        "key",
        "model",
        "outcome",
        "pick",
        "priority",
        "size_bytes",
        "waited_s",
    )

    def __init__(
        self,
        pick: PickRequest,
        model: str,
        priority: int | None,
        outcome: str,
        at_s: float,
        choice: Choice | None,
        key: tuple[int, int] | None,
        size_bytes: int,
        waited_s: float,
    ) -> None:
        self.pick = pick
        self.model = model
        self.priority = priority  # None: its pool is not known
        self.outcome = outcome  # an `Outcome`, or `CLIENT_LEFT`
        self.waited_s = waited_s  # in the picker's queue
        self.at_s = at_s
        self.choice = choice
        self.key = key  # connection and stream, while it runs
        self.size_bytes = size_bytes
        self.done: Done | None = None


class Ring:
    """The newest picks of all pools; none with `decisions_max` 0. `clock` is the picker's own."""

    def __init__(self, config: ExplainConfig, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.started_s = clock()
        self.forgotten = 0
        self.passed_over = 0  # beyond the number per second
        self._window_ends_s = self.started_s
        self._window_left = 0
        self.bytes_used = 0
        self._records: deque[Recorded] = deque()
        self._running: dict[tuple[int, int], Recorded] = {}
        self._nobody: Choice | None = None
        self.configure(config)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def oldest_s(self) -> float | None:
        """When the oldest one was made; None when there is none."""
        return self._records[0].at_s if self._records else None

    def configure(self, config: ExplainConfig) -> None:
        """Puts limits into force; what is beyond them is forgotten."""
        self.decisions_max, self.bytes_max = config.decisions_max, config.bytes_max
        self._window_max = int(config.per_second_max * _WINDOW_S)
        self._trim()

    def recorder(self, profile: Profile, rng: Random, *, every: int) -> PoolRecorder | None:
        """For the decisions of one pool; None when none of them is to be recorded."""
        if not every or not self.decisions_max:
            return None
        return PoolRecorder(self, profile, rng, every=every)

    def newest_first(self) -> list[Recorded]:
        return list(reversed(self._records))

    def admits(self, now_s: float) -> bool:
        """Whether one more may be recorded now; counts it."""
        if now_s >= self._window_ends_s:
            self._window_ends_s, self._window_left = now_s + _WINDOW_S, self._window_max
        if not self._window_left:
            self.passed_over += 1
            return False
        self._window_left -= 1
        return True

    def add(self, record: Recorded) -> None:
        records = self._records
        records.append(record)
        self.bytes_used += record.size_bytes
        if record.key is not None:
            self._running[record.key] = record
        if len(records) > self.decisions_max or self.bytes_used > self.bytes_max:
            self._trim()

    def nobody(self, choice: Choice) -> None:
        """A decision led nowhere; the refusal that follows is recorded with it."""
        self._nobody = choice

    def refused(
        self,
        pick: PickRequest,
        model: str,
        priority: int | None,
        outcome: str,
        waiting_since_s: float | None = None,
    ) -> None:
        """A pick has ended without an endpoint."""
        choice, self._nobody = self._nobody, None
        if choice is not None and choice.weighed.request.pick is not pick:
            choice = None
        now_s = self.clock() if self.decisions_max else 0.0
        if self.decisions_max and self.admits(now_s):
            size = RECORD_BYTES + (pick.prompt_bytes >> _PROMPT_SHIFT)
            if choice is not None:
                size += len(choice.load) * 2
            waited_s = 0.0 if waiting_since_s is None else max(now_s - waiting_since_s, 0.0)
            self.add(Recorded(pick, model, priority, outcome, now_s, choice, None, size, waited_s))

    def ended(self, connection: int, done: Done) -> None:
        """The answer to a pick has ended; of one that is not remembered, nothing happens."""
        record = self._running.pop((connection, done.stream), None)
        if record is not None:
            record.done, record.key = done, None

    def dropped(self, connection: int) -> None:
        """A filter is gone: nobody will tell how its answers ended."""
        for key in [key for key in self._running if key[0] == connection]:
            self._running.pop(key).key = None

    def _trim(self) -> None:
        records = self._records
        while records and (len(records) > self.decisions_max or self.bytes_used > self.bytes_max):
            record = records.popleft()
            self.bytes_used -= record.size_bytes
            self.forgotten += 1
            if record.key is not None and self._running.get(record.key) is record:
                del self._running[record.key]


class PoolRecorder:
    """Records the decisions of one pool of one configuration: one of `every`."""

    __slots__ = ("_every", "_profile", "_ring", "_skipped", "_view", "tape")

    def __init__(self, ring: Ring, profile: Profile, rng: Random, *, every: int = 1) -> None:
        self.tape = Tape(rng)
        self._ring = ring
        self._profile = profile
        self._every = every
        self._skipped = every - 1  # so that the first one is recorded
        self._view: object = None

    def chosen(
        self,
        weighed: Weighed,
        rows: Sequence[int],
        filter_id: int,
        sequence: int,
        at_s: float,
        waited_s: float,
    ) -> None:
        """A choice was made. To be called before it is charged."""
        self._skipped += 1
        if self._skipped < self._every:
            return
        self._skipped = 0
        if not self._ring.admits(at_s):
            return
        request, view = weighed[0], weighed[1]
        pick = request[7]
        choice = self._choice(weighed, rows, sequence)
        size = RECORD_BYTES + 2 * len(choice[3]) + (pick.prompt_bytes >> _PROMPT_SHIFT)
        if view is not self._view:
            self._view = view
            size += _ENDPOINT_BYTES * len(view)
        elif not choice[8]:
            size += 2 * len(view)
        key = filter_id, pick.stream
        self._ring.add(
            Recorded(pick, request[5], request[2], _PICKED, at_s, choice, key, size, waited_s)
        )

    def nobody(self, weighed: Weighed, sequence: int) -> None:
        """The request is about to be refused."""
        self._ring.nobody(self._choice(weighed, (), sequence))

    def _choice(self, weighed: Weighed, rows: Sequence[int], sequence: int) -> Choice:
        request, view = weighed[0], weighed[1]
        if len(view) > ENDPOINTS_WHOLE_MAX:
            return self._part(weighed, rows, sequence)
        tiers = request[4]
        return _new(
            Choice,
            (
                self._profile,
                weighed,
                rows,
                view.load.tobytes(),
                view.metrics_age_s.tobytes(),
                None if tiers is None else tiers.tobytes(),
                sequence,
                self.tape.draws,
                True,
            ),
        )

    def _part(self, weighed: Weighed, rows: Sequence[int], sequence: int) -> Choice:
        """Of a large pool, what concerns the rows."""
        request, view, costs, candidates, removals, terms = weighed
        prompt, output, priority, matched, tiers, model, _, pick = request
        at = np.array(rows, dtype=np.intp)
        cost = costs.take(at)
        raws = tuple(
            [cost if raw is costs else raw if raw is None else raw.take(at) for raw in terms]
        )
        few = _new(Request, (prompt, output, priority, matched.take(at), None, model, None, pick))
        return _new(
            Choice,
            (
                self._profile,
                _new(Weighed, (few, view, cost, candidates, removals, raws)),
                rows,
                view.load.take(at, 1).tobytes(),
                view.metrics_age_s.take(at).tobytes(),
                None if tiers is None else tiers.take(at).tobytes(),
                sequence,
                (),
                False,
            ),
        )
