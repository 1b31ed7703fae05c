"""Logs are events with fields: JSON for machines, text for a terminal, libraries included."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from inferway.observability.logging import LogLevel, get_logger, set_up_logging

if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def undo() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line() -> None:
    stream = io.StringIO()
    set_up_logging("picker", stream=stream)
    get_logger("desk").info("pick_failed", pool="a/b", count=3)
    (event,) = events(stream)
    assert event.pop("timestamp")
    assert event == {
        "event": "pick_failed",
        "level": "info",
        "process": "picker",
        "room": "desk",
        "pool": "a/b",
        "count": 3,
    }


def test_less_important_events_are_dropped() -> None:
    stream = io.StringIO()
    set_up_logging("picker", level=LogLevel.WARNING, stream=stream)
    get_logger("desk").info("quiet")
    logging.getLogger("library").info("quiet")
    get_logger("desk").warning("loud")
    assert [event["event"] for event in events(stream)] == ["loud"]


def test_libraries_log_the_same_way() -> None:
    stream = io.StringIO()
    set_up_logging("control", stream=stream)
    logging.getLogger("asyncio").error("task %s failed", "x", extra={"shard": 2})
    (event,) = events(stream)
    assert (event["event"], event["process"], event["level"]) == (
        "task x failed",
        "control",
        "error",
    )
    assert event["shard"] == 2


def test_an_exception_is_a_field() -> None:
    stream = io.StringIO()
    set_up_logging("picker", stream=stream)
    try:
        raise ValueError("no such luck")
    except ValueError:
        get_logger("desk").exception("failed")
    (event,) = events(stream)
    assert "no such luck" in str(event["exception"])


def test_a_terminal_gets_text() -> None:
    stream = Terminal()
    set_up_logging("picker", stream=stream)
    get_logger("desk").info("pick_failed", pool="a/b")
    assert "pick_failed" in stream.getvalue()
    with pytest.raises(ValueError, match="Expecting"):
        events(stream)


def test_the_newest_set_up_counts() -> None:
    first, second = io.StringIO(), io.StringIO()
    logger = get_logger("desk")
    set_up_logging("one", stream=first)
    logger.info("a")
    set_up_logging("two", stream=second)
    logger.info("b")
    assert [event["process"] for event in events(first)] == ["one"]
    assert [event["process"] for event in events(second)] == ["two"]
