"""When one endpoint is left alone, and when it is tried again.

Problem: a broken server must stop getting requests within a few of them, must be found again soon
after it recovered, and must not be mistaken for one that is merely busy. Model: a state machine per
endpoint in virtual time.

    active ── n faults in a row, or too many of a window's requests ──▶ ejected
    ejected ── its time is over ──▶ probing: one real request at a time
    probing ── first byte or success ──▶ active        probing ── a fault ──▶ ejected, for longer

A probe's first byte makes it active on probation: until a request succeeds whole, one more fault
ejects it again. Back-pressure is another axis: it lowers `share`, the part of its normal traffic
that the endpoint gets, and never ejects. With Retry-After the share is 0 until then, otherwise each
time a factor; afterwards it grows back linearly, so that it is whole again `recovery_s` after the
last busy answer.

Invariants: only `fault` leads to `ejected`; nothing but `fault`, `back_pressure` and time lowers
anything; without news every state ends at active with a whole share, but for a probe, which needs
a request. Whether an ejection takes effect is the pool's decision (panic, see table.py).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from inferway.picker.datalayer.faults import Cause
    from inferway.picker.health_config import HealthConfig

Stream = tuple[int, int]
"""Connection and number of a stream."""

SHARE_STEP_S: Final = 0.1  # how often a growing share is brought up to date
_NEVER: Final = float("-inf")
_ALWAYS: Final = float("inf")


class HealthState(StrEnum):
    ACTIVE = "active"
    EJECTED = "ejected"
    PROBING = "probing"


class EndpointHealth:
    """One endpoint. `now_s` never goes back; `advance` must have been called with it before."""

    __slots__ = (
        "_ejections",
        "_faults_in_row",
        "_forgiven_at_s",
        "_held_until_s",
        "_probe",
        "_share",
        "_share_at_s",
        "_share_due_s",
        "_until_s",
        "_window_began_s",
        "_window_faults",
        "_window_requests",
        "cause",
        "settings",
        "share",
        "state",
    )

    def __init__(self, settings: HealthConfig) -> None:
        self.settings = settings
        self.state = HealthState.ACTIVE
        self.cause: Cause | None = None  # of the last ejection
        self.share = 1.0  # part of its normal traffic, as of the last `advance`
        self._faults_in_row = 0
        self._window_began_s = _NEVER
        self._window_faults = 0
        self._window_requests = 0
        self._ejections = 0  # in a row, not yet forgiven
        self._forgiven_at_s = _NEVER
        self._until_s = _ALWAYS  # ejected: until then; probing: when the probe counts as lost
        self._probe: Stream | None = None
        self._share = 1.0  # as it was at `_share_at_s`
        self._share_at_s = 0.0
        self._share_due_s = _ALWAYS  # when a growing share is looked at again
        self._held_until_s = _NEVER  # Retry-After

    @property
    def usable(self) -> bool:
        """Whether it may get one more request."""
        return self.state is HealthState.ACTIVE or (
            self.state is HealthState.PROBING and self._probe is None
        )

    @property
    def until_s(self) -> float | None:
        """When the ejection, or the Retry-After, is over."""
        if self.state is HealthState.EJECTED:
            return self._until_s
        return self._held_until_s if self.share == 0.0 else None

    @property
    def due_s(self) -> float:
        """When `advance` may change something."""
        due_s = min(self._until_s, self._share_due_s)
        if self._ejections:
            due_s = min(due_s, self._forgiven_at_s)
        if self._window_began_s != _NEVER:
            due_s = min(due_s, self._window_began_s + self.settings.window_s)
        return due_s

    @property
    def forgotten(self) -> bool:
        """Whether it is as if nothing had ever happened."""
        return (
            self.state is HealthState.ACTIVE
            and not self._faults_in_row
            and not self._ejections
            and self._window_began_s == _NEVER
            and self.share == 1.0
        )

    def advance(self, now_s: float) -> None:
        """What time alone does."""
        if now_s >= self._until_s:
            if self.state is HealthState.EJECTED:
                self.state = HealthState.PROBING
            self._probe, self._until_s = None, _ALWAYS
        if now_s >= self._forgiven_at_s and self._ejections:
            self._ejections = 0
        if now_s >= self._window_began_s + self.settings.window_s:
            self._clear_window()
        if now_s >= self._share_due_s:
            self._grow_share(now_s)

    def fault(self, cause: Cause, now_s: float) -> bool:
        """A server or transport fault. True: it ejects the endpoint."""
        if self.state is HealthState.EJECTED or not self.settings.ejection:
            return False
        if self.state is HealthState.PROBING:
            self._eject(cause, now_s)
            return True
        settings = self.settings
        if self._window_began_s == _NEVER:
            self._window_began_s = now_s
        self._window_faults += 1
        self._window_requests += 1
        self._faults_in_row += 1
        if self._faults_in_row >= settings.consecutive_faults or (
            self._window_requests >= settings.window_requests_min
            and self._window_faults >= settings.window_fault_ratio * self._window_requests
        ):
            self._eject(cause, now_s)
            return True
        return False

    def succeeded(self) -> None:
        """A request was served to its end."""
        if self.state is HealthState.ACTIVE:
            self._faults_in_row = 0
            if self._window_began_s != _NEVER:
                self._window_requests += 1

    def back_pressure(self, retry_after_s: float, now_s: float) -> None:
        """The server is busy. `retry_after_s` 0: it did not say for how long."""
        settings = self.settings
        if retry_after_s > 0.0:
            held_s = min(retry_after_s, settings.retry_after_max_s)
            self._held_until_s = max(self._held_until_s, now_s + held_s)
            self._share = settings.share_min
        else:
            self._share = max(settings.share_min, self.share * settings.back_pressure_factor)
        self._share_at_s = now_s
        self._grow_share(now_s)

    def placed(self, stream: Stream, now_s: float) -> None:
        """The endpoint was chosen for a stream; while it is probing, that is the probe."""
        if self.state is HealthState.PROBING and self._probe is None:
            self._probe = stream
            self._until_s = now_s + self.settings.probe_timeout_s

    def began(self, stream: Stream, now_s: float) -> None:
        """The first byte of a good answer came."""
        if self._is_probe(stream):
            self._readmit(now_s)
            self._faults_in_row = self.settings.consecutive_faults - 1

    def ended(self, stream: Stream, now_s: float, *, success: bool) -> None:
        """A stream that was placed here ended without a fault of the endpoint."""
        if self._is_probe(stream):
            if success:
                self._readmit(now_s)
            else:
                self._probe, self._until_s = None, _ALWAYS
        elif success:
            self.succeeded()

    def _is_probe(self, stream: Stream) -> bool:
        return self.state is HealthState.PROBING and self._probe == stream

    def _eject(self, cause: Cause, now_s: float) -> None:
        settings = self.settings
        self._ejections += 1
        grown_s = settings.ejection_s * 2.0 ** min(self._ejections - 1, 32)
        self.state, self.cause = HealthState.EJECTED, cause
        self._until_s = now_s + min(grown_s, settings.ejection_max_s)
        self._forgiven_at_s = _ALWAYS
        self._probe = None
        self._faults_in_row = 0
        self._clear_window()

    def _readmit(self, now_s: float) -> None:
        self.state, self._probe, self._until_s = HealthState.ACTIVE, None, _ALWAYS
        self._faults_in_row = 0
        self._forgiven_at_s = now_s + self.settings.ejection_max_s

    def _clear_window(self) -> None:
        self._window_began_s = _NEVER
        self._window_faults = self._window_requests = 0

    def _grow_share(self, now_s: float) -> None:
        if now_s < self._held_until_s:
            self.share, self._share_due_s = 0.0, self._held_until_s
            return
        from_s = max(self._share_at_s, self._held_until_s)
        grown = (now_s - from_s) / self.settings.back_pressure_recovery_s
        self.share = min(1.0, self._share + grown)
        self._share_due_s = now_s + SHARE_STEP_S if self.share < 1.0 else _ALWAYS
