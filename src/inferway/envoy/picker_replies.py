"""What a client reads when a foreign picker refuses its request, or does not answer.

Problem: the picker's refusals are plain text in words of its own; those about the picker are
Envoy's. Model: one more table of causes in front of and behind the general one (replies.py): a
failed or silent picker is 503, marked if somebody is to try again; what the picker answers keeps
its status and gets its text as the message. Invariant: a reply with a response flag of Envoy is
about the servers, as everywhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from inferway.envoy.replies import CAUSES, Cause, expression, flagged, local_reply_config
from inferway.observability.names import DESTINATION_HEADER

if TYPE_CHECKING:
    from inferway.envoy.messages import Json

FAILED_HEADER: Final = "x-inferway-picker-failed"

_UNAVAILABLE = Cause(
    expression("response.code_details.startsWith('ext_proc_error')"),
    "The endpoint picker of this pool is not available.",
    kind="service_unavailable",
    anthropic_kind="overloaded_error",
    code="endpoint_picker_unavailable",
    status=503,
    retry=True,
)
_UNPICKED: Json = {
    "header_filter": {
        "header": {"name": DESTINATION_HEADER, "present_match": True, "invert_match": True}
    }
}
_SILENT = replace(
    _UNAVAILABLE,
    condition={"and_filter": {"filters": [flagged("SI"), _UNPICKED]}},
    message="The endpoint picker of this pool did not answer in time.",
)


def _refusal(condition: str, kind: str, anthropic_kind: str, code: str | None) -> Cause:
    return Cause(
        expression(condition),
        "%LOCAL_REPLY_BODY%",
        kind=kind,
        anthropic_kind=anthropic_kind,
        code=code,
        retry=code is not None,
    )


_REFUSALS = (
    _refusal("response.code == 429", "rate_limit_error", "rate_limit_error", "overloaded"),
    _refusal("response.code == 503", "service_unavailable", "overloaded_error", "no_endpoint"),
    _refusal("response.code >= 500", "server_error", "api_error", None),
    _refusal("response.code >= 400", "invalid_request_error", "invalid_request_error", None),
)


def picker_reply_config(*, marked: bool) -> Json:
    """`local_reply_config` of a listener with a foreign picker. `marked`: failures of the picker
    carry a header that the outer route tries again on.
    """
    failures = [_UNAVAILABLE, _SILENT]
    if marked:
        mark = ((FAILED_HEADER, "1"),)
        failures = [replace(cause, headers=mark) for cause in failures]
    servers = [cause for cause in CAUSES if cause.by_flag]
    return local_reply_config([*failures, *servers, *_REFUSALS])
