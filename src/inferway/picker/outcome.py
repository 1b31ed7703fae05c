"""What can come of a pick, and what the client is told.

Problem: a refusal that is spelled at the place where it happens ends up with another status,
wording and metric label than its twin elsewhere. Model: a closed enum, which is also the metric
label, and one table from outcome to reply. Invariant: every outcome but `picked` has exactly one
reply. Replies have OpenAI's shape (type, code, message of the error object); the wording is our
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Final

from inferway._native import encode_reject

if TYPE_CHECKING:
    from collections.abc import Mapping


class Outcome(StrEnum):
    PICKED = "picked"
    MODEL_NOT_FOUND = (
        "model_not_found"  # every server of the pool is known, and none of them serves it
    )
    POOL_NOT_FOUND = (
        "pool_not_found"  # Envoy and the picker hold different configurations for a moment
    )
    NO_ENDPOINT = "no_endpoint"  # the pool is empty, or none of its endpoints is ready
    FAILED = "failed"  # a policy raised
    OVERLOADED = "overloaded"  # the picker's own limit of open streams is reached
    SHED = "shed"  # the pool is saturated, and the priority negative
    DISPLACED = "displaced"  # it waited, and a higher priority needed its place
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"  # its time to live ended while it waited
    SLO_MISSED = "slo_missed"  # no endpoint is predicted to meet its latency objective
    SHUTTING_DOWN = "shutting_down"


OUTCOMES: Final = tuple(Outcome)


@dataclass(frozen=True, slots=True)
class Reply:
    """The fields of a REJECT frame.

    `message` may hold {model} and {pool}; an empty `reason` sends no header. When to come back to a
    pool that was too busy (429) is computed for each request.
    """

    status: int
    type: str
    code: str
    message: str
    retry_after_ms: int = 0
    reason: str = ""


REPLIES: Final[Mapping[Outcome, Reply]] = {
    Outcome.MODEL_NOT_FOUND: Reply(
        status=404,
        type="invalid_request_error",
        code="model_not_found",
        message="The model '{model}' is not served here. GET /v1/models lists what is.",
    ),
    Outcome.POOL_NOT_FOUND: Reply(
        status=503,
        type="service_unavailable",
        code="pool_not_found",
        message="The inference pool '{pool}' is not configured yet. Try again in a moment.",
        retry_after_ms=1_000,
        reason="pool-not-found",
    ),
    Outcome.NO_ENDPOINT: Reply(
        status=503,
        type="service_unavailable",
        code="no_endpoint",
        message="No model server of this inference pool is ready. Try again in a moment.",
        retry_after_ms=1_000,
        reason="rejected-no-endpoints",
    ),
    Outcome.FAILED: Reply(
        status=500,
        type="server_error",
        code="picker_failed",
        message="The gateway could not choose a model server for this request.",
        reason="picker-failed",
    ),
    Outcome.OVERLOADED: Reply(
        status=503,
        type="service_unavailable",
        code="overloaded",
        message="The gateway has reached its limit of open requests. Try again in a moment.",
        retry_after_ms=1_000,
        reason="overloaded",
    ),
    Outcome.SHED: Reply(
        status=429,
        type="rate_limit_error",
        code="saturated",
        message="The model servers of this inference pool are busy with more important requests."
        " Try again later.",
        reason="rejected-saturated",
    ),
    Outcome.DISPLACED: Reply(
        status=429,
        type="rate_limit_error",
        code="displaced",
        message="This request waited, and had to make room for more important ones."
        " Try again later.",
        reason="evicted-priority",
    ),
    Outcome.QUEUE_FULL: Reply(
        status=429,
        type="rate_limit_error",
        code="queue_full",
        message="Too many requests wait for this inference pool. Try again later.",
        reason="rejected-saturated",
    ),
    Outcome.QUEUE_TIMEOUT: Reply(
        status=429,
        type="rate_limit_error",
        code="queue_timeout",
        message="No model server of this inference pool had room in time. Try again later.",
        reason="rejected-ttl-expired",
    ),
    Outcome.SLO_MISSED: Reply(
        status=429,
        type="rate_limit_error",
        code="slo_not_attainable",
        message="No model server of this inference pool can meet the latency objective of this"
        " request now. Try again later, or without it.",
        reason="rejected-slo",
    ),
    Outcome.SHUTTING_DOWN: Reply(
        status=503,
        type="service_unavailable",
        code="shutting_down",
        message="The gateway is being stopped. Try again in a moment.",
        retry_after_ms=1_000,
        reason="rejected-shutting-down",
    ),
}

MODEL_SHOWN_MAX: Final = 200  # characters of a client's model name that are sent back to it


def reject(
    outcome: Outcome,
    *,
    stream: int,
    model: str,
    pool: str,
    retry_after_s: float = 0.0,
    retry: bool | None = None,
) -> bytes:
    """The REJECT frame of an outcome. KeyError for `picked`, which is no refusal.

    `retry_after_s`: instead of the table's. `retry`: whether the client is told to try again by
    itself; None: nothing is said of it.
    """
    reply = REPLIES[outcome]
    shown = model if len(model) <= MODEL_SHOWN_MAX else model[:MODEL_SHOWN_MAX] + "…"
    return encode_reject(
        stream,
        reply.status,
        ceil(retry_after_s * 1_000) or reply.retry_after_ms,
        reply.type,
        reply.code,
        reply.message.format(model=shown, pool=pool),
        reply.reason,
        0 if retry is None else 2 - retry,
    )
