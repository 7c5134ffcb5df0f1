"""What is to be written to one client of server-sent events: it is filled by others, and emptied by its response."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Outlet:
    """Pieces of a stream that wait to be written.

    Whoever fills it looks at `waiting` and `waiting_bytes`, or awaits `room`; it takes whatever it is given. After
    `end` nothing more is taken in. `begun` is set once its response has begun, and can't be an error any more. `since`
    is when what waits first began to, or something was last taken, by the event loop's clock. `on_take` is called
    whenever something was taken.
    """

    __slots__ = ("_changed", "_ended", "_on_take", "_pieces", "_taken", "begun", "ended", "since", "waiting_bytes")

    def __init__(self, *, on_take: Callable[[], None] | None = None) -> None:
        self._pieces: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = asyncio.Event()
        self._on_take = on_take
        self.waiting_bytes = 0
        self.begun = False
        self.ended = False
        self.since = 0.0

    @property
    def waiting(self) -> int:
        return len(self._pieces)

    async def until_ended(self) -> None:
        await self._ended.wait()

    def push(self, piece: bytes) -> None:
        if self.ended:
            return
        if not self._pieces:
            self.since = asyncio.get_running_loop().time()
        self._pieces.append(piece)
        self.waiting_bytes += len(piece)
        self._changed.set()

    def end(self, last: bytes = b"") -> None:
        """Take in nothing after this."""
        if last:
            self.push(last)
        self.ended = True
        self._ended.set()
        self._changed.set()
        self._taken.set()

    def clear(self) -> None:
        """Forget what waits."""
        self._pieces.clear()
        self.waiting_bytes = 0
        self._taken.set()

    def take(self, max_bytes: int) -> bytes:
        """Return what waits, as far as it fits into `max_bytes`, but one piece at least; empty when nothing waits."""
        taken: list[bytes] = []
        size = 0
        while self._pieces and (not taken or size + len(self._pieces[0]) <= max_bytes):
            taken.append(self._pieces.popleft())
            size += len(taken[-1])
        if taken:
            self.waiting_bytes -= size
            self.since = asyncio.get_running_loop().time()
            self._taken.set()
            if self._on_take is not None:
                self._on_take()
        return b"".join(taken)

    async def changed(self, timeout: float) -> bool:
        """Wait until something waits, or it has ended. False: nothing did within `timeout` seconds."""
        if self._pieces or self.ended:
            return True
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def room(self, limit: int) -> bool:
        """Wait until fewer than `limit` pieces wait. False: it has ended."""
        while len(self._pieces) >= limit and not self.ended:
            self._taken.clear()
            await self._taken.wait()
        return not self.ended
