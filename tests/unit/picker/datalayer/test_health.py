"""One endpoint's health, in virtual time."""

from __future__ import annotations

import pytest

from inferway.picker.datalayer.faults import Cause
from inferway.picker.datalayer.health import EndpointHealth, HealthState
from inferway.picker.health_config import HealthConfig

ACTIVE, EJECTED, PROBING = HealthState.ACTIVE, HealthState.EJECTED, HealthState.PROBING
PROBE, OTHER = (1, 7), (1, 8)
CONFIG = HealthConfig(
    consecutive_faults=3,
    window_s=10.0,
    window_requests_min=8,
    window_fault_ratio=0.5,
    ejection_s=5.0,
    ejection_max_s=30.0,
    probe_timeout_s=20.0,
    retry_after_max_s=10.0,
    back_pressure_factor=0.5,
    back_pressure_recovery_s=1.5,
    share_min=0.1,
)


class Endpoint(EndpointHealth):
    """With a clock, and advanced before everything that happens."""

    def __init__(self, settings: HealthConfig = CONFIG) -> None:
        super().__init__(settings)
        self.now_s = 100.0

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.advance(self.now_s)

    def fail(self, times: int = 1, cause: Cause = Cause.RESET) -> bool:
        return sum([self.fault(cause, self.now_s) for _ in range(times)]) > 0

    def ejected(self) -> Endpoint:
        assert self.fail(3)
        return self

    def probing(self) -> Endpoint:
        self.ejected().wait(5.0)
        self.placed(PROBE, self.now_s)
        return self


def test_faults_in_a_row_eject_and_a_success_starts_the_row_over() -> None:
    one = Endpoint()
    assert not one.fail(2)
    one.succeeded()
    assert not one.fail(2)
    assert one.usable
    assert one.fail(1, Cause.TIMEOUT)
    assert (one.state, one.usable, one.cause) == (EJECTED, False, Cause.TIMEOUT)
    assert one.until_s == one.now_s + 5.0


def test_a_ratio_of_a_windows_requests_ejects() -> None:
    one = Endpoint()
    for _ in range(3):  # fault, success, fault, success …: never three in a row
        assert not one.fail()
        one.succeeded()
    assert not one.fail(), "7 requests are too few"
    one.succeeded()
    assert one.fail(), "5 of 9"


def test_a_window_forgets() -> None:
    one = Endpoint()
    for _ in range(3):
        one.fail()
        one.succeeded()
    one.wait(10.0)
    for _ in range(3):
        assert not one.fail()
        one.succeeded()


def test_a_small_ratio_does_not_eject() -> None:
    one = Endpoint()
    for _ in range(100):
        assert not one.fail()
        one.succeeded()
        one.succeeded()
    assert one.state is ACTIVE


def test_ejections_grow_up_to_a_cap_and_start_over_after_good_conduct() -> None:
    one, lengths_s = Endpoint(), []
    one.ejected()
    for _ in range(5):
        assert one.until_s is not None
        lengths_s.append(one.until_s - one.now_s)
        one.wait(lengths_s[-1])
        assert one.state is PROBING
        assert one.fail(), "one fault is enough"
    assert lengths_s == [5.0, 10.0, 20.0, 30.0, 30.0]
    one.wait(30.0)
    one.placed(PROBE, one.now_s)
    one.ended(PROBE, one.now_s, success=True)
    one.wait(29.0)
    assert not one.forgotten
    one.wait(1.0)
    assert one.forgotten
    one.ejected()
    assert one.until_s == one.now_s + 5.0


def test_faults_while_ejected_change_nothing() -> None:
    one = Endpoint().ejected()
    one.wait(2.0)
    assert not one.fail(50)
    assert one.until_s == one.now_s + 3.0


def test_one_probe_at_a_time() -> None:
    one = Endpoint().ejected()
    one.wait(4.9)
    assert not one.usable
    one.wait(0.1)
    assert (one.state, one.usable) == (PROBING, True)
    one.placed(PROBE, one.now_s)
    assert not one.usable
    one.placed(OTHER, one.now_s)
    one.ended(OTHER, one.now_s, success=True)
    assert one.state is PROBING, "only the probe tells"


def test_a_probe_that_succeeds_readmits() -> None:
    one = Endpoint().probing()
    one.ended(PROBE, one.now_s, success=True)
    assert one.state is ACTIVE
    assert not one.fail(2)


def test_a_probes_first_byte_readmits_on_probation() -> None:
    one = Endpoint().probing()
    one.began(PROBE, one.now_s)
    assert (one.state, one.usable) == (ACTIVE, True)
    assert one.fail(), "the next fault ejects"
    assert one.until_s == one.now_s + 10.0
    one = Endpoint().probing()
    one.began(PROBE, one.now_s)
    one.ended(PROBE, one.now_s, success=True)
    assert not one.fail(2), "a whole success ends probation"


def test_a_probe_that_tells_nothing_makes_room_for_the_next() -> None:
    one = Endpoint().probing()
    one.ended(PROBE, one.now_s, success=False)
    assert (one.state, one.usable) == (PROBING, True)


def test_a_lost_probe_is_given_up() -> None:
    one = Endpoint().probing()
    one.wait(19.9)
    assert not one.usable
    one.wait(0.1)
    assert one.usable
    one.ended(PROBE, one.now_s, success=True)
    assert one.state is PROBING, "too late"


def test_without_ejection_nothing_ejects() -> None:
    one = Endpoint(CONFIG.model_copy(update={"ejection": False}))
    assert not one.fail(1_000)
    assert one.usable
    assert one.forgotten


def test_back_pressure_lowers_the_share_which_grows_back() -> None:
    one = Endpoint()
    one.back_pressure(0.0, one.now_s)
    assert one.share == 0.5
    one.back_pressure(0.0, one.now_s)
    assert one.share == 0.25
    for _ in range(10):
        one.back_pressure(0.0, one.now_s)
    assert one.share == 0.1, "never less"
    assert one.usable
    one.wait(0.75)
    assert one.share == pytest.approx(0.6)
    one.wait(0.75)
    assert one.share == 1.0
    assert one.forgotten


def test_retry_after_is_honoured_within_bounds() -> None:
    one = Endpoint()
    one.back_pressure(7.0, one.now_s)
    assert (one.share, one.until_s) == (0.0, one.now_s + 7.0)
    one.wait(6.9)
    assert one.share == 0.0
    one.back_pressure(0.0, one.now_s)  # a request that was under way, answered without a time
    assert one.share == 0.0
    one.wait(0.1)
    assert one.share == pytest.approx(0.1)
    one.wait(1.5)
    assert one.share == 1.0
    one.back_pressure(3_600.0, one.now_s)
    assert one.until_s == one.now_s + 10.0


def test_back_pressure_never_ejects() -> None:
    one = Endpoint()
    for number in range(1_000):
        one.back_pressure(float(number % 3), one.now_s)
        one.wait(0.01)
    assert one.state is ACTIVE
    one.wait(10.0 + 1.5)
    assert one.forgotten


def test_due_tells_when_time_changes_something() -> None:
    one = Endpoint()
    assert one.due_s == float("inf")
    one.fail()
    assert one.due_s == one.now_s + 10.0, "the window"
    assert one.fail(2)
    assert one.due_s == one.now_s + 5.0
    one.wait(5.0)
    assert one.due_s == float("inf"), "probing waits for a request"
    one.placed(PROBE, one.now_s)
    assert one.due_s == one.now_s + 20.0
