"""Logs as events with fields, the same way in every process.

Problem: people read logs in a terminal, machines read them everywhere else, and libraries write
through the standard library. Model: one call per process sets up structlog and the root logger
with one renderer on stderr: coloured lines when stderr is a terminal, JSON lines otherwise.
Invariants: stdout stays free for data; nothing here runs on import; the decision path never logs.
It does not rotate or ship files: that is the supervisor's job (systemd, Kubernetes).
"""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def get_logger(room: str) -> FilteringBoundLogger:
    """A logger whose events carry `room`. Lazy: it follows whatever `set_up_logging` says later."""
    return cast("FilteringBoundLogger", structlog.get_logger(room=room))


def set_up_logging(
    process: str, *, level: LogLevel = LogLevel.INFO, stream: TextIO | None = None
) -> None:
    """Sends the events of this process to `stream` (stderr).

    Every event carries `process`. May be called again.
    """
    target = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.value.upper()]

    def name_process(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.setdefault("process", process)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderer(target),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(threshold)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _renderer(stream: TextIO) -> list[Processor]:
    if stream.isatty():
        return [structlog.dev.ConsoleRenderer(colors=True)]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=True),
    ]
