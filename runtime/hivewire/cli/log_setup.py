"""What `--log-level` and `--log-format` of a command that serves ask for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Self

from hivewire.cli.errors import UsageError
from hivewire.telemetry.log_lines import LogFormat, checked_format, configure_logging

_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSetup:
    """The log of Hivewire's own loggers.

    The level is not the root logger's: that would also turn on the log of every message.
    """

    level: int
    form: LogFormat

    @classmethod
    def of(cls, *, level: str, form: str) -> Self:
        """Read what was typed.

        Raises:
            UsageError: it is none of what there is.
        """
        if level.lower() not in _LEVELS:
            raise UsageError(f"--log-level {level}: expected one of {', '.join(_LEVELS)}")
        try:
            return cls(level=logging.getLevelNamesMapping()[level.upper()], form=checked_format(form))
        except ValueError as error:
            raise UsageError(f"--log-format: {error}") from None

    def begin(self) -> None:
        """Write to standard error, unless the user's module has set up logging itself.

        Until `show_all` only warnings are shown: a server that is not there is told once, by the error.
        """
        configure_logging(self.form)
        logging.getLogger("hivewire").setLevel(max(logging.WARNING, self.level))

    def show_all(self) -> None:
        """Show what the level lets through."""
        logging.getLogger("hivewire").setLevel(self.level)
