"""Code that runs on behalf of a program in another process.

A process between NATS and another protocol runs parts of a runtime for programs that are elsewhere. What is theirs it
leaves as it is: the errors of their agents keep the bytes that they came as, since their classes may be unknown here,
and events of the event logger are logged where the agents are.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

from hivewire.logging import EVENT_LOGGER_NAME

__all__ = ["is_relaying", "leave_events_to_programs"]

is_relaying: ContextVar[bool] = ContextVar("hivewire_is_relaying", default=False)
"""Whether the task that runs belongs to such a part. It is inherited by what it starts."""


def leave_events_to_programs() -> None:
    """Have the event logger pass over what such parts report. A second time it does nothing."""
    logging.getLogger(EVENT_LOGGER_NAME).addFilter(_PROGRAMS_LOG)


class _ProgramsLog(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not is_relaying.get()


_PROGRAMS_LOG = _ProgramsLog()
