"""The table of Envoy's own replies: complete, and in both dialects."""

from __future__ import annotations

import json

import pytest

from inferway.envoy.replies import CAUSES, error_text, local_reply_config

# The ways in which Envoy, configured as here, ends a request by itself (its response flags).
FLAGS = {"NR", "UH", "NC", "UO", "UF", "UT", "UC", "UR", "UPE", "SI", "OM"}


def flags_of(condition: dict) -> set[str]:
    found = set(condition.get("response_flag_filter", {}).get("flags", ()))
    for part in condition.get("and_filter", {}).get("filters", ()):
        found |= flags_of(part)
    return found


def test_every_flag_has_a_reply() -> None:
    assert set().union(*(flags_of(cause.condition) for cause in CAUSES)) == FLAGS


def test_the_last_rows_take_everything_but_our_own() -> None:
    for cause in CAUSES[-2:]:
        expression = cause.condition["extension_filter"]["typed_config"]["expression"]
        assert "!response.code_details.startsWith('inferway')" in expression
        assert "response.code_details != 'direct_response'" in expression


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: f"{cause.kind}-{cause.code}")
def test_replies_have_all_fields_of_the_error_object(cause) -> None:
    mappers = local_reply_config()["mappers"]
    position = CAUSES.index(cause)
    anthropic, openai = mappers[position], mappers[position + len(CAUSES)]
    error = openai["body_format_override"]["json_format"]["error"]
    assert set(error) == {"message", "type", "param", "code"}
    body = anthropic["body_format_override"]["json_format"]
    assert body["type"] == "error"
    assert body["error"] == {"type": cause.anthropic_kind, "message": cause.message}
    assert openai.get("status_code") == anthropic.get("status_code") == cause.status
    assert flags_of(anthropic["filter"]) == flags_of(openai["filter"])


def test_error_text_is_json() -> None:
    text = error_text('a "b" \n', kind="server_error", code=None)
    assert json.loads(text) == {
        "error": {"message": 'a "b" \n', "type": "server_error", "param": None, "code": None}
    }
