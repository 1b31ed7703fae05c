"""`/admin/explain`: decisions that the picker remembers, as JSON.

Model: the query string becomes an `ExplainQuery`, the picker's answer is handed on as it is. A
request that is not remembered is 404 with how far back the memory goes, so that whoever asks can
tell a wrong id from one that came too late; a picker that does not answer is 503.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web
from pydantic import ValidationError

from inferway.picker.explain_messages import ExplainQuery
from inferway.picker.link_server import NoAnswerError
from inferway.picker.scheduling.registry import POLICIES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inferway.picker.explain_messages import ExplainAnswer, Reach

# Names in the query string, and what they are in an `ExplainQuery`.
PARAMETERS: Final = {
    "pool": "pool",
    "endpoint": "endpoint",
    "outcome": "outcome",
    "policy": "policy",
    "newest": "newest",
    "candidates": "candidates_max",
}
CANDIDATES_OF_ONE: Final = 1_000  # when one request is asked for and no number is given


async def explained(
    explain: Callable[[ExplainQuery], Awaitable[ExplainAnswer]], request: web.Request
) -> web.Response:
    request_id = request.match_info.get("request_id", "")
    unknown = sorted(set(request.query) - set(PARAMETERS))
    if unknown:
        known = ", ".join(PARAMETERS)
        return _problem(400, f"unknown parameter: {', '.join(unknown)}; known: {known}")
    fields: dict[str, object] = {"candidates_max": CANDIDATES_OF_ONE} if request_id else {}
    fields |= {PARAMETERS[name]: value for name, value in request.query.items()}
    try:
        query = ExplainQuery.model_validate({**fields, "request_id": request_id})
    except ValidationError as problem:
        first = problem.errors()[0]
        return _problem(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    if query.policy and query.policy not in POLICIES:
        known = ", ".join(POLICIES)
        return _problem(400, f"unknown policy: {query.policy}; known: {known}")
    try:
        answer = await explain(query)
    except NoAnswerError as error:
        return _problem(503, f"no explanation: {error}")
    if answer.reach is None:
        return _problem(503, f"no explanation: {answer.error}")
    if request_id and not answer.explanations:
        text = f"no decision about request {request_id} is remembered: {reach_words(answer.reach)}"
        return _problem(404, text)
    return web.json_response(
        {
            "items": [one.model_dump(mode="json") for one in answer.explanations],
            "reach": answer.reach.model_dump(mode="json"),
        }
    )


def reach_words(reach: Reach) -> str:
    """How far back one can ask, for people."""
    if not reach.recorded_max:
        return "the picker records no decisions"
    if reach.oldest_age_s is None:
        return f"the picker has decided nothing since it started {reach.up_s:.0f} s ago"
    words = f"the {reach.recorded} kept reach back {reach.oldest_age_s:.1f} s"
    if reach.passed_over:
        words += f", {reach.passed_over} came too fast to be recorded"
    if reach.forgotten:
        return f"{words}, {reach.forgotten} older ones are forgotten"
    return f"{words}, and none is forgotten since the picker started {reach.up_s:.0f} s ago"


def _problem(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
