"""The tasks of a runtime, owned by one task group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger("hivewire.tasks")


class TaskScope:
    """A task group whose life is not one block of code: `open` begins it, `close` cancels what still runs and ends it.

    A task must not fail: an error that reaches the group is a fault of the runtime. It ends all of its tasks, is kept
    in `failure`, and `on_failure` is called.
    """

    def __init__(self, *, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._group: asyncio.TaskGroup | None = None
        self._owner: asyncio.Task[None] | None = None
        self._end = asyncio.Event()
        self.closing = False
        self.failure: BaseException | None = None

    async def open(self) -> None:
        ready = asyncio.Event()
        self._owner = asyncio.create_task(self._hold(ready), name="hivewire: tasks")
        await ready.wait()

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str | None = None) -> asyncio.Task[None]:
        """Run a coroutine as a task of this scope."""
        if self._group is None or self.closing:
            coroutine.close()
            raise RuntimeError("the runtime's tasks have ended")
        return self._group.create_task(coroutine, name=name)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        self.closing = True
        self._end.set()
        if self._owner is not None:
            await asyncio.wait([self._owner])

    async def _hold(self, ready: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready.set()
                await self._end.wait()
                raise _End
        except* _End:
            pass
        except* Exception as failures:
            self.failure = failures
            self.closing = True
            log.critical("a task of the runtime failed; the runtime stops", exc_info=failures)
            self._on_failure()
        finally:
            self.closing = True


class _End(Exception):
    """Ends the group's block, which cancels its tasks."""
