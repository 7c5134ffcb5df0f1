"""What the local runtime takes for the time, so that a test can bring its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

__all__ = ["Clock", "SystemClock"]

_LONGEST_SLEEP_S: Final = 60.0


class Clock(Protocol):
    """Tells the time and calls back."""

    def now(self) -> datetime:
        """Return the time, with its time zone."""
        ...

    def call_at(self, when: datetime, callback: Callable[[], Any]) -> Callable[[], object]:
        """Call back at a time, at once if it has passed, or earlier; return what cancels that.

        What `callback` returns can be awaited until all that it began has ended. A clock that moves by itself has no
        use for that.
        """
        ...


class SystemClock:
    """The machine's clock, on the running event loop."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def call_at(self, when: datetime, callback: Callable[[], Any]) -> Callable[[], object]:
        # Someone may set the clock meanwhile, so a long wait looks again.
        delay = min(max((when - self.now()).total_seconds(), 0.0), _LONGEST_SLEEP_S)
        return asyncio.get_running_loop().call_later(delay, callback).cancel
