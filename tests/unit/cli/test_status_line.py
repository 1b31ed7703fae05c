"""The line under a running gateway."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from inferway.cli.gateway import GatewayOptions
from inferway.cli.status_line import Rate, StatusLine, pool_words
from inferway.control.reconciler import View
from inferway.envoy.settings import EnvoySettings
from inferway.picker.config import EndpointStatus, PickerStatus, PoolStatus
from inferway.resources.problems import Problem, Severity
from inferway.routing.model import Listener, RoutingModel
from inferway.routing.settings import RoutingSettings
from inferway.routing.status import RoutingWarning
from inferway.routing.translate import Translation


def test_rate_is_per_second_of_real_intervals() -> None:
    rate = Rate()
    assert rate.update(1000, 10.0) == 0.0, "nothing to compare with yet"
    assert rate.update(1040, 12.0) == 20.0
    assert rate.update(1041, 12.1) == 20.0, "too soon to measure"
    assert rate.update(1050, 13.0) == 10.0
    assert rate.update(1050, 14.0) == 0.0


def test_rate_of_a_counter_that_started_anew() -> None:
    rate = Rate()
    rate.update(1000, 0.0)
    assert rate.update(30, 2.0) == 15.0


def endpoint(*, reachable: bool | None, in_flight: int = 0, picks: int = 0) -> EndpointStatus:
    return EndpointStatus(
        address="10.0.0.1:1", reachable=reachable, age_s=None, in_flight=in_flight, picks=picks
    )


POOL = PoolStatus(
    name="default/a",
    endpoints=(
        endpoint(reachable=True, in_flight=2, picks=40),
        endpoint(reachable=None, in_flight=1),
        endpoint(reachable=False),
    ),
)


def test_pool_words() -> None:
    assert pool_words([POOL, PoolStatus(name="default/b")], 12.4) == [
        *("2 pools", "1/3 endpoints", "3 in flight", "12 picks/s"),
    ]


class Now:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def gateway(view: View, **changes: Any) -> Any:
    """The parts of a gateway that the line reads."""
    parts = {
        "reconciler": SimpleNamespace(view=view),
        "link": SimpleNamespace(status=PickerStatus(version=1, pools=(POOL,)), connected=True),
        "picker": SimpleNamespace(restarts=0),
        "envoy": SimpleNamespace(restarts=0),
    }
    return SimpleNamespace(**{**parts, **changes})


def status_line(out: io.StringIO, now: Now | None = None) -> StatusLine:
    options = GatewayOptions(routing=RoutingSettings(), envoy=EnvoySettings(), admin_port=9191)
    return StatusLine(options, clock=now or Now(), console=Console(file=out, width=40))


def test_addresses_and_warnings_are_told_once() -> None:
    model = RoutingModel(
        listeners=(Listener("a", "127.0.0.1", 8080, ()), Listener("b", "::1", 8081, ()))
    )
    warning = RoutingWarning("no Gateway in the manifests [see the docs], so one is assumed")
    out = io.StringIO()
    line = status_line(out)
    line.start(gateway(View(translation=Translation(model, (), (warning,)))))
    line.stop()
    assert out.getvalue().splitlines() == [
        "listening on http://127.0.0.1:8080",
        "listening on http://[::1]:8081",
        "admin and metrics on http://127.0.0.1:9191",
        "warning: no Gateway in the manifests [see the docs], so one is assumed",
    ]


def test_line() -> None:
    now = Now()
    line = status_line(io.StringIO(), now)
    quiet = gateway(View())
    line.line(quiet)
    now.now_s = 1.0
    found = line.line(quiet)
    assert found.plain == "● 1 pools · 1/3 endpoints · 3 in flight · 0 picks/s"
    assert "green" in str(found.style)


def test_line_in_trouble() -> None:
    problem = Problem(Severity.ERROR, "a.yaml", 1, 1, "", "broken")
    found = status_line(io.StringIO()).line(
        gateway(
            View(problems=(problem,)),
            link=SimpleNamespace(status=None, connected=False),
            picker=SimpleNamespace(restarts=2),
            envoy=SimpleNamespace(restarts=1),
        )
    )
    assert found.plain == (
        "● 0 pools · 0/0 endpoints · 0 in flight · 0 picks/s · 3 restarts · "
        "picker is away · 1 manifest errors"
    )
    assert "red" in str(found.style)
