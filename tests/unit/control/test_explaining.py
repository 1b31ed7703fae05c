"""`/admin/explain` in front of a picker that is played: what it is asked, what is made of its
answers.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from inferway.control.explaining import explained, reach_words
from inferway.picker.explain_messages import ExplainAnswer, ExplainQuery, Explanation, Reach
from inferway.picker.link_server import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REACH = Reach(
    recorded=5,
    recorded_max=10,
    forgotten=7,
    bytes_used=100,
    bytes_max=1000,
    oldest_age_s=12.34,
    up_s=60.0,
)


def decision(request_id: str) -> Explanation:
    return Explanation(
        request_id=request_id,
        at="2025-01-01T12:00:00.000+00:00",
        age_s=1.0,
        pool="default/pool",
        outcome="picked",
        model="llama",
        served_model="llama",
    )


class Picker:
    def __init__(self) -> None:
        self.asked: list[ExplainQuery] = []
        self.decisions: tuple[Explanation, ...] = ()
        self.problem = ""
        self.failure = ""

    async def explain(self, query: ExplainQuery) -> ExplainAnswer:
        self.asked.append(query)
        if self.problem:
            raise NoAnswerError(self.problem)
        if self.failure:
            return ExplainAnswer(answer_to=1, error=self.failure)
        return ExplainAnswer(answer_to=1, explanations=self.decisions, reach=REACH)


@pytest.fixture
def picker() -> Picker:
    return Picker()


@asynccontextmanager
async def client(picker: Picker) -> AsyncIterator[TestClient[Any, Any]]:
    async def handle(request: web.Request) -> web.Response:
        return await explained(picker.explain, request)

    app = web.Application()
    app.router.add_get("/admin/explain", handle)
    app.router.add_get("/admin/explain/{request_id:.+}", handle)
    async with TestClient(TestServer(app)) as running:
        yield running


async def got(picker: Picker, path: str) -> tuple[int, dict[str, Any]]:
    async with client(picker) as running, running.get(path) as reply:
        return reply.status, await reply.json()


async def test_one_request(picker: Picker) -> None:
    picker.decisions = (decision("a/b c"),)
    status, found = await got(picker, "/admin/explain/a%2Fb%20c")
    assert status == 200
    assert [one["request_id"] for one in found["items"]] == ["a/b c"]
    assert found["reach"]["oldest_age_s"] == 12.34
    (query,) = picker.asked
    assert (query.request_id, query.candidates_max) == ("a/b c", 1_000)


async def test_recent_ones(picker: Picker) -> None:
    picker.decisions = (decision("a"), decision("b"))
    path = "/admin/explain?pool=default/pool&endpoint=10.0.0.1:8000&outcome=picked&newest=3"
    status, found = await got(picker, path + "&candidates=4")
    assert (status, len(found["items"])) == (200, 2)
    assert picker.asked == [
        ExplainQuery(
            pool="default/pool",
            endpoint="10.0.0.1:8000",
            outcome="picked",
            newest=3,
            candidates_max=4,
        )
    ]
    picker.decisions = ()
    status, found = await got(picker, "/admin/explain")
    assert (status, found["items"]) == (200, []), "nothing yet is no error"
    assert picker.asked[-1] == ExplainQuery()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("colour=red", "unknown parameter: colour; known: pool, endpoint"),
        ("newest=0", "newest"),
        ("newest=many", "newest"),
        ("candidates=-1", "candidates_max"),
        ("policy=luck", "unknown policy: luck; known: marginal-cost"),
    ],
)
async def test_questions_that_cannot_be_asked(picker: Picker, query: str, says: str) -> None:
    status, found = await got(picker, f"/admin/explain?{query}")
    assert status == 400
    assert says in found["error"]
    assert picker.asked == []


async def test_not_remembered(picker: Picker) -> None:
    status, found = await got(picker, "/admin/explain/gone")
    assert status == 404
    assert found["error"] == (
        "no decision about request gone is remembered: the 5 kept reach back 12.3 s, 7 older ones "
        "are forgotten"
    )


async def test_no_answer(picker: Picker) -> None:
    picker.problem = "the picker is not connected"
    status, found = await got(picker, "/admin/explain/x")
    assert (status, found) == (503, {"error": "no explanation: the picker is not connected"})


async def test_the_picker_fails_over_it(picker: Picker) -> None:
    picker.failure = "it failed"
    assert await got(picker, "/admin/explain") == (503, {"error": "no explanation: it failed"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recorded_max": 0}, "the picker records no decisions"),
        (
            {"oldest_age_s": None, "recorded": 0},
            "the picker has decided nothing since it started 60 s ago",
        ),
        (
            {"forgotten": 0},
            "the 5 kept reach back 12.3 s, and none is forgotten since the picker started 60 s ago",
        ),
    ],
)
def test_reach_in_words(changes: dict[str, Any], words: str) -> None:
    assert reach_words(REACH.model_copy(update=changes)) == words
