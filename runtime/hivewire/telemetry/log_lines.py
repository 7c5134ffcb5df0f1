"""How log lines look: one JSON object each for machines, coloured text on a terminal.

The lines of all loggers get it, those of a program and of other libraries too. A line that is written while a message
is handled names the agent, the message and the trace.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from opentelemetry import trace
from structlog.types import EventDict, WrappedLogger

from hivewire.logging import current_agent_id

LogFormat = Literal["auto", "json", "text"]


def configure_logging(form: LogFormat = "auto") -> None:
    """Write the lines of all loggers to standard error; a program that has set up the root logger keeps what it has.

    Args:
        form: `auto` is text on a terminal and JSON elsewhere.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    as_text = sys.stderr.isatty() if form == "auto" else form == "text"
    renderer = structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer(default=str)
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _add_turn,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root.addHandler(handler)


def _add_turn(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    agent = current_agent_id.get()
    if agent is not None:
        line["agent"] = str(agent)
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        line["trace_id"] = trace.format_trace_id(span.trace_id)
    return line
