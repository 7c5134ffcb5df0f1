"""How log lines look: one JSON object each for machines, readable text on a terminal.

The lines of all loggers get it, those of a program and of other libraries too. A line that is written while a message
is handled names the agent, the message and the trace. What that takes is imported only when it is asked for.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal, cast, get_args

LogFormat = Literal["auto", "json", "text"]

_VARIABLE = "HIVEWIRE_LOG_FORMAT"


def configure_logging(form: str | None = None) -> None:
    """Write the lines of all loggers to standard error; a program that has set up the root logger keeps what it has.

    structlog's loggers write there too, unless the program has configured structlog. Levels stay as they are.

    Args:
        form: `json`, `text`, or `auto`, which is text on a terminal and JSON elsewhere. None is what
            `HIVEWIRE_LOG_FORMAT` says, and otherwise `auto`.

    Raises:
        ValueError: there is no such format.
    """
    chosen = checked_format(form or os.environ.get(_VARIABLE) or "auto")
    root = logging.getLogger()
    if root.handlers:
        return
    from hivewire.telemetry.log_rendering import line_handler, send_structlog_to_logging

    as_text = sys.stderr.isatty() if chosen == "auto" else chosen == "text"
    root.addHandler(line_handler(as_text=as_text))
    send_structlog_to_logging()


def checked_format(form: str) -> LogFormat:
    """Return the format that a text names.

    Raises:
        ValueError: there is no such format.
    """
    if form.lower() not in get_args(LogFormat):
        raise ValueError(f"{form!r} is no log format: expected one of {', '.join(get_args(LogFormat))}")
    return cast(LogFormat, form.lower())
