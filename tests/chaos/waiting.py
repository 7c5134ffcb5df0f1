"""Waiting for what nothing signals."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from time import monotonic

_POLL_S = 0.05


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, *, timeout_s: float = 60.0) -> None:
    """Wait until a condition holds; `what` says it for the failure."""
    deadline = monotonic() + timeout_s
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        assert monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(_POLL_S)
