"""The taxonomy, row by row."""

from __future__ import annotations

import pytest

from inferway.picker.datalayer.faults import (
    Cause,
    FaultClass,
    Judgement,
    of_attempt,
    of_status,
    of_stream,
)

SUCCESS, CLIENT = FaultClass.SUCCESS, FaultClass.CLIENT_ERROR
BUSY, SERVER, TRANSPORT = (
    FaultClass.BACK_PRESSURE,
    FaultClass.SERVER_FAULT,
    FaultClass.TRANSPORT_FAULT,
)
UNKNOWN = FaultClass.UNKNOWN


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, UNKNOWN),
        (200, SUCCESS),
        (204, SUCCESS),
        (302, SUCCESS),
        (400, CLIENT),
        (404, CLIENT),
        (408, BUSY),
        (413, CLIENT),
        (422, CLIENT),
        (429, BUSY),
        (499, CLIENT),
        (500, SERVER),
        (501, CLIENT),
        (502, SERVER),
        (503, BUSY),
        (504, SERVER),
        (505, CLIENT),
        (507, SERVER),
        (529, BUSY),
        (600, UNKNOWN),
        (65_535, UNKNOWN),
    ],
)
def test_statuses(status: int, expected: FaultClass) -> None:
    assert of_status(status) is expected
    assert of_attempt(4, status) == Judgement(expected)


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (1, Judgement(TRANSPORT, Cause.CONNECT_FAILURE)),
        (2, Judgement(TRANSPORT, Cause.RESET)),
        (3, Judgement(TRANSPORT, Cause.TIMEOUT)),
        (99, Judgement(UNKNOWN)),
    ],
)
def test_attempts(cause: int, expected: Judgement) -> None:
    assert of_attempt(cause, 0) == expected
    assert expected.counts is (cause != 99)


@pytest.mark.parametrize(
    ("end", "status", "fault", "expected"),
    [
        (0, 200, 0, Judgement(SUCCESS)),
        (0, 404, 0, Judgement(CLIENT)),
        # Counted by the attempt already.
        (0, 500, 0, Judgement(UNKNOWN)),
        (0, 503, 0, Judgement(UNKNOWN)),
        (0, 429, 0, Judgement(UNKNOWN)),
        (1, 502, 0, Judgement(UNKNOWN)),
        (0, 200, 1, Judgement(SERVER, Cause.TRUNCATED)),
        (1, 200, 2, Judgement(SERVER, Cause.BROKEN_STREAM)),
        (1, 504, 3, Judgement(SERVER, Cause.FIRST_TOKEN)),
        (1, 200, 4, Judgement(SERVER, Cause.IDLE)),
        (1, 200, 77, Judgement(UNKNOWN)),
        (2, 200, 0, Judgement(UNKNOWN)),
        (3, 429, 0, Judgement(FaultClass.OVERLOAD)),
        (9, 200, 0, Judgement(UNKNOWN)),
    ],
)
def test_streams(end: int, status: int, fault: int, expected: Judgement) -> None:
    assert of_stream(end, status, fault) == expected


def test_only_server_and_transport_faults_count() -> None:
    assert {one for one in FaultClass if Judgement(one).counts} == {SERVER, TRANSPORT}
