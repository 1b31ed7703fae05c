"""What the end of an attempt or of a stream says about the server: the taxonomy of faults.

Problem: "it failed" is no reason to avoid a server. A client that sends nonsense, a server that is
busy and a server that is broken must be told apart, or one bad client empties a pool and a full
queue counts as a dead machine. Model: six classes and one table. Envoy reports every failed attempt
at the moment it fails (FAULT), also those that another endpoint made good; the filter reports how a
stream ended (DONE). A failure is counted once: statuses and connections by the attempt, what
happens after the first byte by the stream.

Only server and transport faults count against an endpoint. Back-pressure lowers its share. Client
errors, our own refusals and clients that leave say nothing about it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class FaultClass(StrEnum):
    """The metric label of `inferway_endpoint_faults_total`, but for the first and the last."""

    SUCCESS = "success"
    CLIENT_ERROR = "client_error"  # the request was wrong: any server would have said so
    BACK_PRESSURE = "back_pressure"  # the server is well and has no room
    OVERLOAD = "overload"  # this gateway refused; no server was asked
    SERVER_FAULT = "server_fault"
    TRANSPORT_FAULT = "transport_fault"
    UNKNOWN = "unknown"  # it says nothing about the server


class Cause(StrEnum):
    """What happened, in a word: why an endpoint was ejected."""

    CONNECT_FAILURE = "connect_failure"
    RESET = "reset"
    TIMEOUT = "timeout"
    STATUS = "status"
    TRUNCATED = "truncated"
    BROKEN_STREAM = "broken_stream"
    FIRST_TOKEN = "first_token"  # noqa: S105 - not a secret
    IDLE = "idle"


class Judgement(NamedTuple):
    fault_class: FaultClass
    cause: Cause = Cause.STATUS

    @property
    def counts(self) -> bool:
        """Whether it counts against the endpoint."""
        return self.fault_class in (FaultClass.SERVER_FAULT, FaultClass.TRANSPORT_FAULT)


# `cause` of FAULT, `fault` and `end` of DONE (docs/pick-protocol.md).
ATTEMPT_STATUS: Final = 4
_ATTEMPTS: Final = {
    1: Judgement(FaultClass.TRANSPORT_FAULT, Cause.CONNECT_FAILURE),
    2: Judgement(FaultClass.TRANSPORT_FAULT, Cause.RESET),
    3: Judgement(FaultClass.TRANSPORT_FAULT, Cause.TIMEOUT),
}
_STREAMS: Final = {
    1: Judgement(FaultClass.SERVER_FAULT, Cause.TRUNCATED),
    2: Judgement(FaultClass.SERVER_FAULT, Cause.BROKEN_STREAM),
    3: Judgement(FaultClass.SERVER_FAULT, Cause.FIRST_TOKEN),
    4: Judgement(FaultClass.SERVER_FAULT, Cause.IDLE),
}
_COMPLETE, _ANSWERED_HERE = 0, 3
# Statuses that mean something else than their hundred says. 408 comes from servers whose own queue
# timed out (the body was read whole before they were asked), 529 from those that keep 503 for
# "gone"; 501 and 505 are about what was asked for.
_STATUSES: Final = {
    408: FaultClass.BACK_PRESSURE,
    429: FaultClass.BACK_PRESSURE,
    501: FaultClass.CLIENT_ERROR,
    503: FaultClass.BACK_PRESSURE,
    505: FaultClass.CLIENT_ERROR,
    529: FaultClass.BACK_PRESSURE,
}
_HUNDREDS: Final = (
    FaultClass.UNKNOWN,  # 0: no answer
    FaultClass.SUCCESS,
    FaultClass.SUCCESS,
    FaultClass.SUCCESS,
    FaultClass.CLIENT_ERROR,
    FaultClass.SERVER_FAULT,
)
_NOTHING: Final = Judgement(FaultClass.UNKNOWN)


def of_status(status: int) -> FaultClass:
    """The class of an HTTP status that a server answered."""
    special = _STATUSES.get(status)
    if special is not None:
        return special
    hundred = status // 100
    return _HUNDREDS[hundred] if 0 <= hundred < len(_HUNDREDS) else FaultClass.UNKNOWN


def of_attempt(cause: int, status: int) -> Judgement:
    """Of a FAULT: one attempt that failed, whatever came of the request."""
    if cause == ATTEMPT_STATUS:
        return Judgement(of_status(status))
    return _ATTEMPTS.get(cause, _NOTHING)


def of_stream(end: int, status: int, fault: int) -> Judgement:
    """Of a DONE. A status that the attempt has reported is `UNKNOWN` here: it counted there."""
    if fault:
        return _STREAMS.get(fault, _NOTHING)
    if end == _ANSWERED_HERE:
        return Judgement(FaultClass.OVERLOAD)
    if end != _COMPLETE:
        return _NOTHING
    judged = of_status(status)
    if judged in (FaultClass.SUCCESS, FaultClass.CLIENT_ERROR):
        return Judgement(judged)
    return _NOTHING
