"""How much work is unfinished, and waiting for it to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hivewire.local.work import Work, current_work

__all__ = ["PendingWork"]


class PendingWork:
    """Counts accepted work until it ends, however it ends; none left is what idle means.

    Code that waits for idleness may itself be part of the work: a handler that stops its runtime cannot wait for its
    own end, nor its callers, who wait for it. So all work above those who wait does not count, for any of them.
    """

    __slots__ = ("_count", "_owner", "_threshold", "_times_idle", "_waiters", "_watchers")

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._count = 0
        self._waiters: list[Work | None] = []
        self._watchers: list[asyncio.Future[None]] = []
        self._threshold = 0
        self._times_idle = 0

    def __repr__(self) -> str:
        return f"<PendingWork {self._count}>"

    @property
    def watched(self) -> bool:
        """Whether somebody waits for a change."""
        return bool(self._watchers)

    def add(self) -> None:
        self._count += 1

    def remove(self) -> None:
        self._count -= 1
        if self._watchers and self._count <= self._threshold:
            self.notify()

    def notify(self) -> None:
        """Let those who wait look again."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def change(self, threshold: int = -1) -> None:
        """Wait for `notify`, or until no more than so much work is left."""
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._threshold = max(self._threshold, threshold) if self._watchers else threshold
        self._watchers.append(watcher)
        await watcher

    async def until_idle(self, unless: Callable[[], bool]) -> None:
        """Wait until no work is left, or `unless` holds after a `notify`."""
        waiter, reached = current_work.get(), self._times_idle
        self._waiters.append(waiter)
        # Those who wait already have less to wait for now.
        self.notify()
        try:
            # Who goes on counts again, so the others must not look at the number that is left then.
            while self._times_idle == reached and not unless():
                waiting = self._waiting()
                if self._count <= waiting:
                    self._times_idle += 1
                    self.notify()
                    break
                await self.change(waiting)
        finally:
            self._waiters.remove(waiter)

    def _waiting(self) -> int:
        """How much of the work waits for this to become idle."""
        above = [work for waiter in self._waiters if waiter is not None for work in waiter.chain()]
        return len({id(work) for work in above if work.owner is self._owner})
