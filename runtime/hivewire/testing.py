"""What tests of agents need beside the local runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

__all__ = ["FakeClock"]

_SETTLE_TIMEOUT_S: Final = 1.0


@dataclass(slots=True, order=True)
class _Timer:
    when: datetime
    number: int
    callback: Callable[[], Any] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """A clock that stands still until it is told to advance, for `SingleThreadedAgentRuntime(clock=...)`.

    It begins at `start`, an aware datetime.
    """

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        if start.utcoffset() is None:
            raise ValueError(f"{start!r} has no time zone: write datetime(..., tzinfo=UTC)")
        self._now = start.astimezone(UTC)
        self._timers: list[_Timer] = []
        self._numbers = count()

    def now(self) -> datetime:
        return self._now

    def call_at(self, when: datetime, callback: Callable[[], Any]) -> Callable[[], object]:
        timer = _Timer(when, next(self._numbers), callback)
        heappush(self._timers, timer)
        return timer.cancel

    async def advance(self, by: float | timedelta) -> None:
        """Let so many seconds pass: what is due on the way happens in order, each at its time.

        After each firing this waits until the runtime has nothing left to do, at most a second of real time, since a
        handler may itself wait for what happens later.
        """
        passed = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if passed < timedelta():
            raise ValueError(f"time does not go back: advance by {passed} is negative")
        until = self._now + passed
        while self._timers and self._timers[0].when <= until:
            timer = heappop(self._timers)
            if timer.cancelled:
                continue
            self._now = max(self._now, timer.when)
            begun = timer.callback()
            if isinstance(begun, Awaitable):
                try:
                    async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                        await begun
                except TimeoutError:
                    pass
        self._now = until
