"""Envoy's log lines → events with fields.

Envoy is told to write one JSON object per line. A line that is none (a crash, a library that
prints) is kept whole as a warning: it is rare and never unimportant.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from inferway.observability.logging import LogLevel

FORMAT = '{"level":"%l","logger":"%n","message":"%j"}'
"""For `--log-format`."""

_LEVELS = {
    "trace": LogLevel.DEBUG,
    "debug": LogLevel.DEBUG,
    "info": LogLevel.INFO,
    "warning": LogLevel.WARNING,
    "error": LogLevel.ERROR,
    "critical": LogLevel.ERROR,
}
_NOISE = (
    # The module is built for the pinned Envoy; this only says that its SDK was not used for it.
    "Dynamic module ABI version",
    # We are the ones who send the signal, and the ones at the other end of the stream.
    "caught ENVOY_SIGTERM",
    "StreamAggregatedResources gRPC config stream",
)


@dataclass(frozen=True, slots=True)
class EnvoyLine:
    """One thing that Envoy said."""

    level: LogLevel
    logger: str
    message: str


def read_line(line: str) -> EnvoyLine | None:
    """None for an empty line and for known noise."""
    text = line.strip()
    if not text:
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return EnvoyLine(LogLevel.WARNING, "output", text)
    match fields:
        case {"level": str(level), "logger": str(logger), "message": str(message)}:
            if message.startswith(_NOISE):
                return None
            return EnvoyLine(_LEVELS.get(level, LogLevel.WARNING), logger, message)
    return EnvoyLine(LogLevel.WARNING, "output", text)
