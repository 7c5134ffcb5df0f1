"""What is typed to name an agent, or a time."""

from __future__ import annotations

import re
from datetime import datetime

from hivewire.cli.errors import UsageError
from hivewire.model.ids import AgentId, check_agent_type

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_is_duration = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd])").fullmatch


def agent_id(text: str) -> AgentId:
    """Read `TYPE/KEY`.

    Raises:
        UsageError: it is none.
    """
    try:
        text.encode()
        return AgentId.from_str(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def agent_type(text: str) -> str:
    """Read an agent type.

    Raises:
        UsageError: it can't be one.
    """
    try:
        text.encode()
        check_agent_type(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return text


def since(text: str, *, now: float) -> float:
    """Read a time, or how long ago it is: ``90s``, ``30m``, ``1h``, ``2d``, ``2026-01-31``, ``2026-01-31T12:00:00Z``.

    Returns:
        Seconds since 1970. A time without a zone is local.

    Raises:
        UsageError: it is neither.
    """
    duration = _is_duration(text)
    if duration is not None:
        return now - float(duration[1]) * _SECONDS[duration[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"--since {text}: neither a duration such as 90s, 30m, 1h or 2d, nor a time such as 2026-01-31T12:00:00Z"
        ) from None
