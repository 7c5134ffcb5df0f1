"""What is to be seen to, once each and one at a time: the queue between what was seen and what is done about it.

An object that is named again while it waits is seen to once. One that is named while it is being seen to is seen to
once more afterwards, never beside. So whoever names it never has to know whether it is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0


class WorkQueue(Generic[Key]):
    """Keys that wait, at once or later.

    Args:
        on_depth: Told how many wait, whenever that changes.
    """

    def __init__(self, *, on_depth: Callable[[int], None] = lambda depth: None) -> None:
        self._on_depth = on_depth
        self._waiting: dict[Key, None] = {}
        self._running: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._signal = asyncio.Event()

    def add(self, key: Key) -> None:
        """Let it be seen to as soon as possible."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._waiting[key] = None
        self._changed()

    def add_after(self, key: Key, delay_s: float) -> None:
        """Let it be seen to in so many seconds, or earlier if that was asked for before."""
        when = asyncio.get_running_loop().time() + delay_s
        timer = self._timers.get(key)
        if key in self._waiting or (timer is not None and timer.when() <= when):
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(when, self.add, key)

    def add_failed(self, key: Key) -> float:
        """Let what failed be tried again, each time after twice as long. Returns the seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s: float = min(_FIRST_DELAY_S * 2 ** min(failures - 1, 16), _LONGEST_DELAY_S)
        self.add_after(key, delay_s)
        return delay_s

    def succeeded(self, key: Key) -> None:
        """Forget that it failed."""
        self._failures.pop(key, None)

    def close(self) -> None:
        """Let nothing come any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Key]:
        """Wait for a key, and have it alone within `async with`."""
        key = await self._take()
        try:
            yield key
        finally:
            self._running.discard(key)
            self._changed()

    async def _take(self) -> Key:
        while True:
            self._signal.clear()
            for key in self._waiting:
                if key not in self._running:
                    del self._waiting[key]
                    self._running.add(key)
                    self._changed()
                    return key
            await self._signal.wait()

    def _changed(self) -> None:
        self._on_depth(len(self._waiting))
        self._signal.set()
