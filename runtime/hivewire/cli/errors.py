"""How a command ends badly: one line on standard error and an exit code.

Exit code 2 says that the command line makes no sense as it was typed, 1 that it was understood and failed, 130 that it
was interrupted.
"""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

FAILURE = 1
USAGE = 2
INTERRUPTED = 130


class CommandError(Exception):
    """The command can't do what was asked. The text is for the user."""

    exit_code = FAILURE


class UsageError(CommandError):
    """What was typed can't be understood."""

    exit_code = USAGE


class UserCodeError(CommandError):
    """The user's own code raised `__cause__`, so its traceback is worth showing."""

    def show_traceback(self) -> None:
        """Print the traceback to standard error, from the user's first frame on."""
        error = self.__cause__
        if error is not None:
            traceback.print_exception(type(error), error, _own_frames(error.__traceback__), file=sys.stderr)


def one_line(text: object) -> str:
    """Put a text that may come from elsewhere on one line, without control characters."""
    return printable(" ".join(str(text).split()))


def printable(line: str) -> str:
    """Write control characters as escapes, so that they don't reach the terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)


def complain(text: object) -> None:
    """Write one line to standard error."""
    print(f"hivewire: {one_line(text)}", file=sys.stderr)


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of the loader and of this package, which come first."""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if not name.startswith(("hivewire.", "importlib.", "asyncio.")):
            return trace
        trace = trace.tb_next
    return None
