"""What the client reads when Envoy itself answers instead of a model server.

Problem: Envoy's own replies are plain text; the client is an OpenAI SDK that reads `error.message`,
`error.type`, `error.param` and `error.code`, or an Anthropic one on `/v1/messages`. Model: one
table of causes, tried in order, each giving the error object (and another status where Envoy's says
something else). Replies that are already ours, from the filter or from a route with a fixed body,
match no row and stay as they are; answers of model servers never come here. Values are escaped by
Envoy's JSON formatter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.envoy.messages import Json, typed
from inferway.observability.names import MODEL_NAME_HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason for which Envoy answers, recognised by `condition`, an access-log filter."""

    condition: Json
    message: str  # may hold Envoy's %…% operators
    kind: str  # OpenAI's `type`
    anthropic_kind: str
    code: str | None
    param: str | None = None
    status: int | None = None  # None keeps Envoy's
    retry: bool = False  # whether the same request may well succeed a second later
    headers: tuple[tuple[str, str], ...] = ()  # of the reply

    @property
    def by_flag(self) -> bool:
        """Whether Envoy's response flags alone tell this cause."""
        return "response_flag_filter" in self.condition


def error_body(message: str, *, kind: str, code: str | None, param: str | None = None) -> Json:
    """The error object of the OpenAI API. `kind` is its `type`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_text(message: str, *, kind: str, code: str | None, param: str | None = None) -> str:
    """The same as JSON text."""
    return json.dumps(error_body(message, kind=kind, code=code, param=param), ensure_ascii=False)


def flagged(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def expression(text: str) -> Json:
    config = typed(
        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", expression=text
    )
    name = "envoy.access_loggers.extension_filters.cel"
    return {"extension_filter": {"name": name, "typed_config": config}}


def _has_model() -> Json:
    return {"header_filter": {"header": {"name": MODEL_NAME_HEADER, "present_match": True}}}


_MODEL = f"%REQ({MODEL_NAME_HEADER})%"
_REQUEST = "%REQ(:METHOD)% %REQ(:PATH)%"
# The paths on which the filter speaks Anthropic's dialect.
_MESSAGES_PATH = r"[^?]*/messages(\?.*)?"

# Flags are those of Envoy's %RESPONSE_FLAGS%. A filter's own reply carries none of them, but its
# status may equal one of ours: rows without a flag therefore look at the details of the response.
CAUSES: tuple[Cause, ...] = (
    Cause(
        {"and_filter": {"filters": [flagged("NR"), _has_model()]}},
        f"The model `{_MODEL}` does not exist or is not served at this address.",
        kind="invalid_request_error",
        anthropic_kind="not_found_error",
        code="model_not_found",
        param="model",
    ),
    Cause(
        flagged("NR"),
        f"Nothing is served at this address for: {_REQUEST}",
        kind="invalid_request_error",
        anthropic_kind="not_found_error",
        code="unknown_url",
    ),
    Cause(
        flagged("UH"),
        "No model server is ready to serve this request.",
        kind="service_unavailable",
        anthropic_kind="overloaded_error",
        code="no_endpoint",
        retry=True,
    ),
    Cause(
        flagged("NC"),
        "The backend of this route is not ready yet.",
        kind="service_unavailable",
        anthropic_kind="overloaded_error",
        code="no_endpoint",
        status=503,
        retry=True,
    ),
    Cause(
        flagged("UO"),
        "Too many requests are waiting for the model servers.",
        kind="service_unavailable",
        anthropic_kind="overloaded_error",
        code="overloaded",
        retry=True,
    ),
    Cause(
        flagged("UF"),
        "The model server could not be reached.",
        kind="service_unavailable",
        anthropic_kind="overloaded_error",
        code="endpoint_unreachable",
        retry=True,
    ),
    Cause(
        flagged("UT"),
        "The model server did not answer in time.",
        kind="timeout_error",
        anthropic_kind="timeout_error",
        code="upstream_timeout",
    ),
    Cause(
        expression("response.code_details == 'max_duration_timeout'"),
        "The request took longer than its route allows.",
        kind="timeout_error",
        anthropic_kind="timeout_error",
        code="request_timeout",
    ),
    Cause(
        flagged("UC", "UR", "UPE"),
        "The connection to the model server broke before it answered.",
        kind="server_error",
        anthropic_kind="api_error",
        code="upstream_reset",
        status=502,
    ),
    Cause(
        flagged("SI"),
        "The request was idle for too long.",
        kind="timeout_error",
        anthropic_kind="timeout_error",
        code="idle_timeout",
    ),
    Cause(
        flagged("OM"),
        "The gateway is overloaded.",
        kind="service_unavailable",
        anthropic_kind="overloaded_error",
        code="overloaded",
        retry=True,
    ),
    Cause(
        expression("response.code_details == 'request_payload_too_large'"),
        "The request body is larger than this gateway accepts.",
        kind="invalid_request_error",
        anthropic_kind="request_too_large",
        code="request_too_large",
    ),
    # Details that start with `inferway` mark the filter's replies, `direct_response` a fixed body.
    Cause(
        expression(
            "response.code >= 500 && response.code_details != 'direct_response'"
            " && !response.code_details.startsWith('inferway')"
        ),
        "The gateway could not serve this request: %RESPONSE_CODE_DETAILS%",
        kind="server_error",
        anthropic_kind="api_error",
        code=None,
    ),
    Cause(
        expression(
            "response.code >= 400 && response.code < 500"
            " && response.code_details != 'direct_response'"
            " && !response.code_details.startsWith('inferway')"
        ),
        "The gateway refused this request: %RESPONSE_CODE_DETAILS%",
        kind="invalid_request_error",
        anthropic_kind="invalid_request_error",
        code=None,
    ),
)


def local_reply_config(causes: Sequence[Cause] = CAUSES) -> Json:
    """The table as Envoy's `local_reply_config`. Without a row that matches, a reply is kept."""
    anthropic = [_mapper(_on_messages(cause), _anthropic_body(cause), cause) for cause in causes]
    openai = [_mapper(cause.condition, _openai_body(cause), cause) for cause in causes]
    return {"mappers": [*anthropic, *openai]}


def _openai_body(cause: Cause) -> Json:
    return error_body(cause.message, kind=cause.kind, code=cause.code, param=cause.param)


def _anthropic_body(cause: Cause) -> Json:
    return {"type": "error", "error": {"type": cause.anthropic_kind, "message": cause.message}}


def _on_messages(cause: Cause) -> Json:
    path: Json = {"name": ":path", "string_match": {"safe_regex": {"regex": _MESSAGES_PATH}}}
    return {"and_filter": {"filters": [{"header_filter": {"header": path}}, cause.condition]}}


def _mapper(condition: Json, body: Json, cause: Cause) -> Json:
    status: Json = {} if cause.status is None else {"status_code": cause.status}
    headers = [*cause.headers, *([("retry-after", "1")] if cause.retry else [])]
    if headers:
        added: list[Json] = [{"header": {"key": key, "value": value}} for key, value in headers]
        status = {**status, "headers_to_add": added}
    return {
        "filter": condition,
        "body_format_override": {"json_format": body, "content_type": JSON_TYPE},
        **status,
    }
