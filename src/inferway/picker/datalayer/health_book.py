"""The health of all endpoints: what is reported, to whom it belongs, and who has to know.

Problem: reports name an address, which may stand in several pools or in none any more, and nearly
all of them are about servers that are well, which must cost nothing. Model: `HealthBook` keeps an
`EndpointHealth` only for addresses with something to remember; `watched` is empty in a healthy
system, so that a good DONE costs one test of it. Whenever what follows from an address's health
changes, `changed(address)` is called. Invariant: addresses that no pool has are not remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from inferway.picker.datalayer.faults import (
    Cause,
    FaultClass,
    Judgement,
    of_attempt,
    of_stream,
)
from inferway.picker.datalayer.health import EndpointHealth, HealthState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from inferway.picker.datalayer.health import Stream
    from inferway.picker.health_config import HealthConfig

_ALWAYS: Final = float("inf")


class Standing(NamedTuple):
    """What follows from an endpoint's health."""

    usable: bool = True  # false: ejected, or a probe is under way
    share: float = 1.0
    state: HealthState = HealthState.ACTIVE
    cause: Cause | None = None
    until_s: float | None = None  # end of the ejection or of the Retry-After


WELL: Final = Standing()


class HealthCounters:
    """One address: faults by class, ejections by cause."""

    __slots__ = ("ejections", "faults")

    def __init__(self) -> None:
        self.faults: dict[FaultClass, int] = {}
        self.ejections: dict[Cause, int] = {}


class HealthBook:
    """Health of every address of every pool. `now_s` is monotonic."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self.watched: dict[str, EndpointHealth] = {}
        self.counters: dict[str, HealthCounters] = {}
        self.revision = 0  # counts ejections, and ends of ejections
        self.due_s = _ALWAYS  # when `advance` has something to do
        self._changed = changed
        self._settings: Mapping[str, HealthConfig] = {}

    def configure(self, settings: Mapping[str, HealthConfig]) -> None:
        """The settings of every address that there is; others are forgotten."""
        self._settings = settings
        self.watched = {a: one for a, one in self.watched.items() if a in settings}
        self.counters = {a: one for a, one in self.counters.items() if a in settings}
        for address, one in self.watched.items():
            one.settings = settings[address]

    def standing(self, address: str) -> Standing:
        one = self.watched.get(address)
        if one is None:
            return WELL
        return Standing(one.usable, one.share, one.state, one.cause, one.until_s)

    def advance(self, now_s: float) -> None:
        """What time alone changes. To be called when `due_s` has come, before a decision."""
        if now_s < self.due_s:
            return
        for address in list(self.watched):
            one = self.watched[address]
            before = one.usable, one.share, one.state
            one.advance(now_s)
            if (one.usable, one.share, one.state) != before:
                self.revision += one.state is not before[2]
                self._changed(address)
            if one.forgotten:
                del self.watched[address]
        self._schedule()

    def attempt_failed(
        self, address: str, *, cause: int, status: int, retry_after_s: float, now_s: float
    ) -> None:
        """A FAULT frame."""
        judged = of_attempt(cause, status)
        if judged.fault_class is FaultClass.BACK_PRESSURE:
            one = self._known(address, now_s)
            if one is not None:
                self._count(address, judged)
                one.back_pressure(retry_after_s, now_s)
                self._tell(address)
        elif judged.counts:
            self._fault(address, judged, now_s)

    def placed(self, address: str, stream: Stream, now_s: float) -> None:
        """The endpoint was chosen. Needs to be told only while something is watched."""
        one = self.watched.get(address)
        if one is not None and one.state is HealthState.PROBING:
            one.placed(stream, now_s)
            self._tell(address)

    def began(self, address: str, stream: Stream, *, status: int, now_s: float) -> None:
        """A FIRST frame of a stream that was placed at the address."""
        one = self.watched.get(address)
        if one is not None and one.state is HealthState.PROBING and status < 400:
            one.advance(now_s)
            one.began(stream, now_s)
            self.revision += 1
            self._tell(address)

    def ended(
        self,
        placed: str,
        served: str,
        stream: Stream,
        *,
        end: int,
        status: int,
        fault: int,
        now_s: float,
    ) -> None:
        """A DONE frame. `placed` and `served` differ when another endpoint had to make it good."""
        judged = of_stream(end, status, fault)
        if judged.counts:
            self._fault(served, judged, now_s)
            return
        success = judged.fault_class is FaultClass.SUCCESS
        for address in {placed: None, served: None}:
            one = self.watched.get(address)
            if one is not None:
                one.advance(now_s)
                one.ended(stream, now_s, success=success and address == served)
                self._tell(address)
                if one.forgotten:
                    del self.watched[address]

    def _fault(self, address: str, judged: Judgement, now_s: float) -> None:
        one = self._known(address, now_s)
        if one is None:
            return
        self._count(address, judged)
        if one.fault(judged.cause, now_s):
            ejections = self.counters[address].ejections
            ejections[judged.cause] = ejections.get(judged.cause, 0) + 1
            self.revision += 1
        self._tell(address)

    def _known(self, address: str, now_s: float) -> EndpointHealth | None:
        one = self.watched.get(address)
        if one is None:
            settings = self._settings.get(address)
            if settings is None:
                return None
            one = self.watched[address] = EndpointHealth(settings)
        one.advance(now_s)
        return one

    def _count(self, address: str, judged: Judgement) -> None:
        faults = self.counters.setdefault(address, HealthCounters()).faults
        faults[judged.fault_class] = faults.get(judged.fault_class, 0) + 1

    def _tell(self, address: str) -> None:
        self._changed(address)
        self._schedule()

    def _schedule(self) -> None:
        self.due_s = min((one.due_s for one in self.watched.values()), default=_ALWAYS)
