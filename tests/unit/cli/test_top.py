"""`inferway top`: tables from two readings with known differences, and the command around them."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from inferway.cli import top as command
from inferway.cli.top_view import Reading, frame, percentile

from .conftest import call

if TYPE_CHECKING:
    from .conftest import AdminApi

Document = dict[str, Any]
POOL = ["POOL", "READY", "IN FLIGHT", "PENDING", "WAIT", "RUN", "KV", "PICKS/S", "REFUSED/S"]
ENDPOINT = ["ENDPOINT", "STATE", "IN FLIGHT", "PENDING", "WAIT", "RUN", "KV", "PICKS/S", "SHARE"]


EJECTED = {"ready": False, "unready": "ejected"}


def endpoint(address: str, picks: int, **changes: Any) -> Document:
    return {
        "address": address,
        "ready": True,
        "unready": "",
        "health": "active",
        "cause": "",
        "until_s": None,
        "weight": 1.0,
        "reachable": True,
        "age_s": 0.25,
        "in_flight": 2,
        "pending_tokens": 500,
        "waiting": 1.0,
        "running": 3.0,
        "kv_usage_ratio": 0.5,
        "picks": picks,
        **changes,
    }


def pool(*endpoints: Document, name: str = "default/chat", **traffic: Any) -> Document:
    counted = {"outcomes": {}, "prompt_tokens": 0.0, "matched_tokens": 0.0, "ttft": []}
    return {
        "name": name,
        "endpoints": list(endpoints),
        "panic": False,
        "flow": {"bands": [], "saturation": None},
        "traffic": {**counted, **traffic},
    }


def lines(before: Reading, now: Reading, sort: str = "address", **options: Any) -> list[list[str]]:
    """Cells of every line that is shown."""
    console = Console(width=200, file=StringIO(), highlight=False)
    console.print(frame(before, now, sort, **options))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()
    ]


BEFORE = Reading(
    10.0,
    [
        pool(
            endpoint("a:1", 100),
            endpoint("b:1", 50),
            outcomes={"picked": 150, "no_endpoint": 4},
            prompt_tokens=1_000.0,
            matched_tokens=100.0,
            ttft=[[0.1, 5]],
        )
    ],
)
NOW = Reading(
    12.0,
    [
        pool(
            endpoint("a:1", 130),
            endpoint("b:1", 60, in_flight=7, waiting=None, kv_usage_ratio=0.25, age_s=None),
            endpoint("c:1", 3, ready=False, unready="draining", pending_tokens=20_000),
            outcomes={"picked": 190, "no_endpoint": 5, "failed": 1},
            prompt_tokens=3_000.0,
            matched_tokens=600.0,
            ttft=[[0.1, 15], [0.2, 10]],
        )
        | {
            "flow": {
                "bands": [
                    {"priority": 10, "requests": 2, "bytes": 900},
                    {"priority": 0, "requests": 0, "bytes": 0},
                    {"priority": -1, "requests": 30, "bytes": 9_000},
                ],
                "saturation": 1.25,
            }
        }
    ],
)


def test_rates_and_ratios_are_of_the_interval() -> None:
    head, chat, _, title, columns, *rows = lines(BEFORE, NOW)
    assert head == [*POOL, "HITS", "TTFT p50", "p95", "QUEUE", "SATURATION"]
    assert chat == [
        *("default/chat", "2/3", "11", "21.0k", "2", "9", "42%"),
        # 40 picks and 2 refusals in 2 s; 500 of 2,000 tokens; 10 up to 100 ms, 10 up to 200 ms.
        *("20", "1.0", "25%", "100 ms", "190 ms", "10: 2, -1: 30", "125%"),
    ]
    assert title == ["default/chat"]
    assert columns == [*ENDPOINT, "AGE"]
    assert rows == [
        ["a:1", "ready", "2", "500", "1", "3", "50%", "15", "75%", "0.2 s"],
        ["b:1", "ready", "7", "500", "-", "3", "25%", "5.0", "25%", "never"],
        ["c:1", "draining", "2", "20.0k", "1", "3", "50%", "0", "0%", "0.2 s"],
    ]


def test_a_picker_that_started_anew_counts_from_zero() -> None:
    later = Reading(1.0, [pool(endpoint("a:1", 8), outcomes={"picked": 8})])
    shown = lines(BEFORE, later)
    assert shown[1][7] == "8.0"
    assert lines(Reading(None, []), Reading(None, [])) == [["no pools"]]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("address", "abc"),
        ("picks", "bac"),
        ("in-flight", "cab"),
        ("pending", "abc"),
        ("waiting", "bca"),
        ("kv", "cba"),
    ],
)
def test_order(sort: str, order: str) -> None:
    now = pool(
        endpoint("a", 5, in_flight=2, waiting=None, kv_usage_ratio=0.1),
        endpoint("b", 9, in_flight=1, waiting=4.0, kv_usage_ratio=0.2),
        endpoint("c", 1, in_flight=3, waiting=0.0, kv_usage_ratio=0.3),
    )
    before = pool(endpoint("a", 0), endpoint("b", 0), endpoint("c", 0))
    shown = lines(Reading(1.0, [before]), Reading(2.0, [now]), sort)
    assert "".join(row[0] for row in shown[5:]) == order


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "ready"),
        ({"health": "probing", "cause": "reset"}, "probing: reset"),
        (
            {**EJECTED, "health": "ejected", "cause": "timeout", "until_s": 4.2},
            "ejected: timeout, 4 s",
        ),
        ({**EJECTED, "health": "probing", "cause": "status"}, "probing: status"),
        ({"ready": False, "unready": "draining", "health": "ejected"}, "draining"),
        ({"ready": False}, "not ready"),
        ({"reachable": False}, "not scraped"),
        ({"weight": 0.3}, "held back to 30%"),
        ({"weight": 0.0, "until_s": 6.0}, "held back to 0%, 6 s"),
    ],
)
def test_states(changes: Document, state: str) -> None:
    now = Reading(2.0, [pool(endpoint("a:1", 1, **changes))])
    assert lines(now, now)[5][1] == state


def test_panic_is_told() -> None:
    now = Reading(2.0, [{**pool(endpoint("a:1", 1)), "panic": True}])
    assert lines(now, now)[1][1] == "1/1 panic"


def test_it_fits_the_screen() -> None:
    many = [endpoint(f"{n}:1", 0) for n in range(100)]
    now = Reading(2.0, [pool(*many), pool(*many, name="default/other")])
    shown = lines(now, now, lines_max=40)
    assert len(shown) <= 40
    assert shown.count(["and 86 more"]) == 2
    assert len(lines(now, now)) > 200


@pytest.mark.parametrize(
    ("counts", "part", "value"),
    [
        ([], 0.5, None),
        ([(0.1, 0)], 0.5, None),
        ([(0.1, 10)], 0.5, 0.075),  # between 0.05 and 0.1
        ([(0.1, 10)], 1.0, 0.1),
        ([(0.005, 1)], 0.5, 0.0025),
        ([(0.1, 10), (0.4, 10)], 0.75, 0.3),  # between 0.2 and 0.4
        ([(0.1, 1), (None, 9)], 0.5, 120.0),
    ],
)
def test_percentiles(
    counts: list[tuple[float | None, int]], part: float, value: float | None
) -> None:
    found = percentile(counts, part)
    assert found == (value if value is None else pytest.approx(value))


def status(admin: AdminApi, up_s: float, picks: int) -> None:
    one = pool(endpoint("a:1", picks), outcomes={"picked": picks})
    text = json.dumps({"picker_up_s": up_s, "pools": [one]})
    admin.replies["/admin/status"] = 200, text.encode()


@pytest.fixture
def no_waiting(admin: AdminApi, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause is noted, and two seconds of the picker go by in it."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        status(admin, 100.0 + 2 * len(pauses), 100 * len(pauses))

    status(admin, 100.0, 0)
    monkeypatch.setattr("inferway.cli.top.time.sleep", pause)
    return pauses


def test_once(admin: AdminApi, no_waiting: list[float]) -> None:
    found = call("top", "--once", "-i", "3", "--admin", admin.url)
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines()[1].split() == [
        *("default/chat", "1/1", "2", "500", "1", "3", "50%", "50", "0", "-", "-", "-", "0", "-"),
    ]
    assert no_waiting == [3.0]


def test_one_pool(admin: AdminApi, no_waiting: list[float]) -> None:
    assert call("top", "--once", "--pool", "default/chat", "--admin", admin.url).code == 0
    found = call("top", "--once", "--pool", "default/x", "--admin", admin.url)
    assert (found.code, found.out) == (1, "")
    assert found.err == "no such pool: default/x (known: default/chat)\n"


def test_the_same_report_is_not_shown_twice(admin: AdminApi) -> None:
    up_s = iter([104.0, 104.0, 106.0])
    status(admin, 102.0, 0)
    found = command.pairs(admin.url, "", 1.0, lambda _: status(admin, next(up_s), 7))
    for expected in ([102.0, 104.0], [104.0, 106.0]):
        pair = next(found)
        assert not isinstance(pair, str)
        assert [one.at_s for one in pair] == expected


def test_a_gateway_that_goes_is_waited_for(admin: AdminApi) -> None:
    def pause(seconds: float) -> None:
        assert seconds == 1.0
        admin.replies["/admin/status"] = 503, b'{"error": "starting"}'

    status(admin, 102.0, 0)
    assert next(command.pairs(admin.url, "", 1.0, pause)) == "starting"


def test_nobody_answers() -> None:
    found = call("top", "--once", "--admin", "http://127.0.0.1:1")
    assert found.code == 1
    assert "no gateway answers at http://127.0.0.1:1" in found.err
