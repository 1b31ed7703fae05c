"""`inferway explain` against an admin API that answers as told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import call

if TYPE_CHECKING:
    from .conftest import AdminApi

Document = dict[str, Any]
REACH = {
    "recorded": 2,
    "recorded_max": 8192,
    "forgotten": 3,
    "passed_over": 0,
    "bytes_used": 10,
    "bytes_max": 100,
    "oldest_age_s": 12.34,
    "up_s": 60.0,
}


def candidate(address: str, place: int = 0, **changes: Any) -> Document:
    return {
        "address": address,
        "place": place,
        "removed_by": "",
        "cost": 0.0123,
        "terms": [{"name": "marginal-cost", "raw": 0.0123, "cost": 0.0123, "parts": {}}],
        "in_flight": 3,
        "pending_tokens": 512,
        "context_tokens": 900,
        "matched_tokens": 128.0,
        "adapter_tier": None,
        "waiting": 1.0,
        "running": 2.0,
        "kv_usage_ratio": 0.5,
        "foreign_requests": 0.0,
        "weight": 1.0,
        "metrics_age_s": 0.25,
        **changes,
    }


def decision(**changes: Any) -> Document:
    return {
        "request_id": "r-1",
        "at": "2025-01-01T12:00:00.000+00:00",
        "age_s": 1.5,
        "pool": "default/chat",
        "outcome": "picked",
        "policy": "marginal-cost",
        "model": "food",
        "served_model": "food-v2",
        "objective": "important",
        "priority": 10,
        "waited_s": 0.0,
        "prompt_tokens": 812.0,
        "output_tokens": 200.0,
        "repeated": False,
        "winner": "10.0.0.1:8000",
        "runner_up": "10.0.0.2:8000",
        "margin": 0.012,
        "cost_unit": "s",
        "reason": "prefix 82%, least cost by 12 ms",
        "would_be": "",
        "draws": [],
        "candidates": [
            candidate("10.0.0.1:8000", 1),
            candidate("10.0.0.2:8000", 2, cost=0.0243, waiting=None, metrics_age_s=None),
            candidate("10.0.0.3:8000", removed_by="not ready", cost=None, terms=[]),
        ],
        "endpoints_total": 5,
        "candidates_total": 2,
        "removed": {"not ready": 3},
        "ended": {
            "how": "complete",
            "fault": "",
            "attempts": 1,
            "status": 200,
            "endpoint": "10.0.0.1:8000",
            "ttft_s": 0.031,
            "duration_s": 1.2,
            "prompt_tokens": 800,
            "cached_tokens": 640,
            "completion_tokens": 120,
        },
        **changes,
    }


def answers(admin: AdminApi, path: str, *items: Document, **reach: Any) -> None:
    text = json.dumps({"items": items, "reach": {**REACH, **reach}})
    admin.replies[path] = 200, text.encode()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_decision(admin: AdminApi) -> None:
    answers(admin, "/admin/explain/r-1", decision())
    found = call("explain", "r-1", "--admin", admin.url)
    assert (found.code, found.err) == (0, "")
    lines = [line.rstrip() for line in found.out.splitlines()]
    assert lines[:6] == [
        "request r-1, 1.50 s ago (2025-01-01T12:00:00.000+00:00)",
        (
            "pool default/chat; model food-v2 (asked for: food); policy marginal-cost; "
            "priority 10 (objective important); about 812 prompt tokens; 200 more expected"
        ),
        "",
        "sent to 10.0.0.1:8000: prefix 82%, least cost by 12 ms",
        "  next: 10.0.0.2:8000, dearer by 12 ms",
        (
            "  200 from 10.0.0.1:8000, complete, first byte after 31 ms, 1.20 s in all, "
            "800 prompt tokens (640 cached), 120 in the answer"
        ),
    ]
    assert [cells(line) for line in lines[7:11]] == [
        [
            *("#", "ENDPOINT", "COST", "CACHED", "IN FLIGHT", "PENDING", "CONTEXT"),
            *("WAITING", "RUNNING", "KV", "SCRAPED"),
        ],
        ["1", "10.0.0.1:8000", "12.3 ms", "128", "3", "512", "900", "1", "2", "50%", "250 ms ago"],
        ["2", "10.0.0.2:8000", "24.3 ms", "128", "3", "512", "900", "-", "2", "50%", "never"],
        ["10.0.0.3:8000", "not ready", "128", "3", "512", "900", "1", "2", "50%", "250 ms ago"],
    ]
    assert lines[11:] == ["and 2 more endpoints that are not shown", "removed: 3 not ready"]


def test_terms_and_adapters_have_columns_where_there_are_any(admin: AdminApi) -> None:
    terms = [
        {"name": "queue-scorer", "raw": 0.75, "cost": -1.5, "parts": {}},
        {"name": "prefix-scorer", "raw": None, "cost": None, "parts": {}},
    ]
    one = candidate("10.0.0.1:8000", 1, terms=terms, cost=-1.5, adapter_tier=2)
    answers(admin, "/admin/explain/r-1", decision(candidates=[one], cost_unit="", removed={}))
    header, row = call("explain", "r-1", "--admin", admin.url).out.splitlines()[7:9]
    assert cells(header)[2:6] == ["COST", "queue-scorer", "prefix-scorer", "CACHED"]
    assert cells(row)[2:6] == ["-1.5", "0.75 → -1.5", "-", "128"]
    assert "ADAPTER" in cells(header)
    assert "waits" in cells(row)


def test_parts_of_the_only_term_have_columns(admin: AdminApi) -> None:
    parts = {"prefill": 0.01, "queue": 0.0}
    terms = [{"name": "marginal-cost", "raw": 0.0123, "cost": 0.0123, "parts": parts}]
    shown = [candidate("10.0.0.1:8000", 1, terms=terms)]
    shown.append(candidate("10.0.0.2:8000", removed_by="draining", cost=None, terms=[]))
    answers(admin, "/admin/explain/r-1", decision(candidates=shown))
    header, first, second = call("explain", "r-1", "--admin", admin.url).out.splitlines()[7:10]
    assert cells(header)[2:6] == ["COST", "prefill", "queue", "CACHED"]
    assert cells(first)[2:6] == ["12.3 ms", "10 ms", "0 ms", "128"]
    assert cells(second)[1:5] == ["draining", "-", "-", "128"]


def test_how_it_went_wrong(admin: AdminApi) -> None:
    ended = decision()["ended"] | {
        "how": "server_failed",
        "fault": "first_token_deadline",
        "attempts": 3,
        "ttft_s": None,
        "prompt_tokens": None,
        "endpoint": "",
    }
    nobody = decision(
        outcome="no_endpoint", winner="", runner_up="", ended=None, candidates_total=0, waited_s=1.5
    )
    refused = decision(
        outcome="pool_not_found", policy="", winner="", ended=None, priority=None, candidates=[]
    )
    refused["prompt_tokens"] = refused["output_tokens"] = None
    running = decision(ended=None, repeated=True, waited_s=0.25)
    answers(admin, "/admin/explain/r-1", decision(ended=ended), nobody, refused, running)
    found = call("explain", "r-1", "--admin", admin.url).out
    assert (
        "200 from no server, broken off by the server, first token deadline, 3 servers tried, "
        "1.20 s in all\n" in found
    )
    assert "not sent: no_endpoint; after 1.50 s in the queue; 0 of 5 endpoints were left\n" in found
    assert "not sent: pool_not_found\n" in found
    assert "prefix 82%, least cost by 12 ms, after 250 ms in the queue\n" in found
    assert "its answer has not ended\n" in found
    assert "asked again after the picker was away" in found
    assert found.count("\n---\n") == 3


def test_recent_decisions(admin: AdminApi) -> None:
    other = decision(request_id="r-2", outcome="no_endpoint", winner="", reason="", ended=None)
    answers(admin, "/admin/explain", decision(candidates=[]), other)
    found = call(
        *("explain", "--pool", "default/chat", "--outcome", "picked", "-n", "7"),
        *("--endpoint", "10.0.0.1:8000", "--admin", admin.url),
    )
    assert found.code == 0
    assert [cells(line) for line in found.out.splitlines()] == [
        ["AGE", "REQUEST", "POOL", "MODEL", "OUTCOME", "ENDPOINT", "WHY", "STATUS", "TOOK"],
        [
            *("1.50 s", "r-1", "default/chat", "food-v2", "picked", "10.0.0.1:8000"),
            *("prefix 82%, least cost by 12 ms", "200", "1.20 s"),
        ],
        ["1.50 s", "r-2", "default/chat", "food-v2", "no_endpoint", "-", "-", "-"],
    ]
    assert found.err == "2 decisions are remembered, back to 12.3 s ago; 3 are forgotten\n"
    assert admin.asked == [
        "/admin/explain?pool=default%2Fchat&endpoint=10.0.0.1%3A8000&outcome=picked&newest=7"
    ]


def test_the_last_one(admin: AdminApi) -> None:
    answers(admin, "/admin/explain", decision())
    found = call("explain", "--last", "--admin", admin.url)
    assert found.out.startswith("request r-1, ")
    assert admin.asked == ["/admin/explain?newest=1&candidates=40"]
    call("explain", "--last", "--all", "--admin", admin.url)
    assert admin.asked[-1] == "/admin/explain?newest=1&candidates=10000"


def test_json_is_what_the_gateway_said(admin: AdminApi) -> None:
    answers(admin, "/admin/explain/r-1", decision())
    found = call("explain", "r-1", "--json", "--admin", admin.url)
    assert json.loads(found.out) == {"items": [decision()], "reach": REACH}


def test_another_policy(admin: AdminApi) -> None:
    other = {"would_be": "10.0.0.2:8000", "candidates": []}
    answers(
        *(admin, "/admin/explain"),
        decision(**other),
        decision(request_id="r-2", winner="10.0.0.2:8000", **other),
        decision(request_id="r-3", winner="", would_be=""),
    )
    found = call("explain", "--policy", "least-request", "-n", "3", "--admin", admin.url)
    assert admin.asked == ["/admin/explain?policy=least-request&newest=3"]
    assert [cells(line) for line in found.out.splitlines()] == [
        ["least-request would have chosen differently in 1 of 2 decisions (50%)"],
        ["1 more cannot be made again"],
        [],
        ["ENDPOINT", "CHOSEN", "least-request"],
        ["10.0.0.1:8000", "1", "0"],
        ["10.0.0.2:8000", "1", "2"],
        [],
        ["REQUEST", "MODEL", "CHOSEN", "least-request", "WHY"],
        [
            *("r-1", "food-v2", "10.0.0.1:8000", "10.0.0.2:8000"),
            "prefix 82%, least cost by 12 ms",
        ],
    ]
    answers(admin, "/admin/explain", decision(winner="", would_be=""))
    found = call("explain", "--policy", "random", "--admin", admin.url)
    assert found.out == "none of these decisions can be made again\n"
    answers(admin, "/admin/explain", decision(**{**other, "candidates": []}))
    found = call("explain", "--last", "--policy", "random", "--admin", admin.url)
    assert found.out.splitlines()[-1] == "random would have chosen 10.0.0.2:8000"


def test_everything_of_a_list_for_a_program(admin: AdminApi) -> None:
    answers(admin, "/admin/explain", decision())
    call("explain", "-n", "500", "--all", "--json", "--admin", admin.url)
    assert admin.asked == ["/admin/explain?newest=500&candidates=10000"]


def test_odd_ids_arrive(admin: AdminApi) -> None:
    call("explain", "a/b?c d", "--admin", admin.url)
    assert admin.asked == ["/admin/explain/a%2Fb%3Fc%20d?newest=20&candidates=40"]


def test_not_remembered(admin: AdminApi) -> None:
    text = "no decision about request r-9 is remembered: the 5 kept reach back 12.3 s"
    admin.replies["/admin/explain/r-9"] = 404, json.dumps({"error": text}).encode()
    found = call("explain", "r-9", "--admin", admin.url)
    assert (found.code, found.out, found.err) == (1, "", text + "\n")


@pytest.mark.parametrize(
    ("reach", "told"),
    [
        ({}, "2 decisions are remembered, back to 12.3 s ago; 3 are forgotten"),
        (
            {"passed_over": 9},
            (
                "2 decisions are remembered, back to 12.3 s ago; 3 are forgotten,"
                " 9 came too fast to be recorded"
            ),
        ),
        ({"oldest_age_s": None}, "the picker has decided nothing since it started 60 s ago"),
        ({"recorded_max": 0}, "the picker records no decisions"),
    ],
)
def test_nothing_like_that(admin: AdminApi, reach: Document, told: str) -> None:
    answers(admin, "/admin/explain", **reach)
    found = call("explain", "--last", "--admin", admin.url)
    assert (found.code, found.err) == (1, f"no decision like that: {told}\n")
    assert call("explain", "--admin", admin.url).code == 0, "an empty list is no error"


def test_a_request_and_the_last_one_exclude_each_other(admin: AdminApi) -> None:
    found = call("explain", "r-1", "--last", "--admin", admin.url)
    assert found.code == 2
    assert "--last is for when no request is named" in found.said


@pytest.mark.parametrize("reply", [b'{"items": 3}', b'{"items": []}', b"[]", b"<html>"])
def test_somebody_else_answers(admin: AdminApi, reply: bytes) -> None:
    admin.replies["/admin/explain"] = 200, reply
    found = call("explain", "--admin", admin.url)
    assert (found.code, found.out) == (1, "")
    assert "is not inferway's admin API" in found.err
