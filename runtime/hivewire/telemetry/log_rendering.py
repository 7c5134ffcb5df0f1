"""Log records as lines, with structlog.

A line never fails and, as JSON, never spans two: whatever a record holds, something readable comes out. What a line
says of itself (`timestamp`, `level`, `logger`, `event`) and of the message that is handled is never overwritten by a
field of the same name, which gets a `_` at its end.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from opentelemetry import trace
from structlog.contextvars import merge_contextvars
from structlog.types import EventDict, Processor, WrappedLogger

from hivewire.logging import current_agent_id, message_in_hand

__all__ = ["line_handler", "send_structlog_to_logging"]


def line_handler(*, as_text: bool) -> logging.Handler:
    """Return a handler that writes lines to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter(_text_processors() if as_text else [_with_traceback, _json_line]))
    return handler


def send_structlog_to_logging() -> None:
    """Hand what structlog's loggers write to those of the standard library, unless a program has configured it."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


class _LineFormatter(structlog.stdlib.ProcessorFormatter):
    def __init__(self, processors: list[Processor]) -> None:
        super().__init__(foreign_pre_chain=[merge_contextvars], processors=[_line_of, *processors])

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as error:
            # Such as arguments that don't fit their text. They are left out: they may be anything.
            text = f"{_text(record.msg)} (its arguments can't be shown: {type(error).__name__})"
            plain = logging.makeLogRecord({**_own_fields(record), "msg": text})
            return super().format(plain)


def _own_fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in ("name", "levelname", "levelno", "created")}


def _line_of(logger: WrappedLogger, method: str, given: EventDict) -> EventDict:
    """Put the line together: first what it says of itself, then its fields."""
    record: logging.LogRecord = given.pop("_record")
    if given.pop("_from_structlog"):
        # A program's own processors may have said the same.
        for name in ("timestamp", "level", "logger"):
            given.pop(name, None)
        extra: Mapping[str, Any] = {}
    else:
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    line: EventDict = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": given.pop("event", ""),
        **_turn(),
    }
    if "stack_info" in given:
        given["stack"] = given.pop("stack_info")
    fields = getattr(record.msg, "kwargs", None)
    if isinstance(fields, dict):
        # A structured event, whose text is its fields once more.
        line["event"] = fields.get("type", type(record.msg).__name__)
        _add(line, fields)
    _add(line, extra)
    _add(line, given)
    return line


def _add(line: EventDict, fields: Mapping[Any, Any]) -> None:
    for name, value in fields.items():
        free = str(name)
        while free in line:
            free += "_"
        line[free] = value


def _turn() -> dict[str, str]:
    """Name the message that is handled. The span that is open knows its trace best."""
    message = message_in_hand()
    agent = current_agent_id.get() if message is None else message.agent
    named = {} if agent is None else {"agent": str(agent)}
    if message is not None and message.message_id:
        named["message_id"] = message.message_id
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        named["trace_id"] = trace.format_trace_id(span.trace_id)
        named["span_id"] = trace.format_span_id(span.span_id)
    elif message is not None and (sent := _is_traceparent(message.trace.get("traceparent", ""))) is not None:
        named["trace_id"] = sent[1]
    return named


def _with_traceback(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    if not line.get("exc_info"):
        line.pop("exc_info", None)
        return line
    told = line.pop("exception", None)
    line = structlog.processors.format_exc_info(logger, method, line)
    if told is not None:
        _add(line, {"exception": told})
    return line


def _json_line(logger: WrappedLogger, method: str, line: EventDict) -> str:
    try:
        return _json(line)
    except _UNFIT:
        return _json({name: value if _is_json(value) else _text(value) for name, value in line.items()})


def _json(value: object) -> str:
    # ASCII only, so that no character ends the line and every encoding has them.
    return json.dumps(value, default=_text, allow_nan=False)


def _is_json(value: object) -> bool:
    try:
        _json(value)
    except _UNFIT:
        return False
    return True


def _text_processors() -> list[Processor]:
    colors = sys.stderr.isatty()
    return [
        _for_people,
        structlog.dev.ConsoleRenderer(
            colors=colors,
            pad_event_to=0,
            # Not the one with the values of all variables: they are contents of messages.
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]


def _for_people(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """Tell the time of the day, and write control characters as escapes, so that they don't reach the terminal."""
    written_at = datetime.fromisoformat(line["timestamp"]).astimezone()
    line["timestamp"] = written_at.strftime("%H:%M:%S.%f")[:-3]
    for name, value in line.items():
        if name != "exc_info":
            line[name] = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", _text(value))
    return line


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} without a text: {type(error).__name__}>"


_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
_UNFIT: Final = (TypeError, ValueError, RecursionError)
"""Raised for a key that is no text, a value that holds itself or is nested too deeply, and what is no number."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_is_traceparent: Final = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?").fullmatch
