"""The export of spans by a command that serves."""

from __future__ import annotations

from collections.abc import Callable

from hivewire.cli.errors import UsageError
from hivewire.telemetry.exporting import start_exporting


def export_spans(*, service: str, instance: str) -> Callable[[], None]:
    """Export what this process traces, if the environment says so; return what sends the last spans.

    Raises:
        UsageError: the environment can't be followed.
    """
    try:
        return start_exporting(service=service, instance=instance)
    except ValueError as error:
        raise UsageError(str(error)) from None
