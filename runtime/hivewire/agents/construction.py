"""Building one agent while several messages wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from hivewire.model.runtime import Agent

__all__ = ["Construction"]


class Construction:
    """One run of an asynchronous factory, whose result all who wait for it share.

    It runs in a task of its own, so that a waiter that is cancelled takes nothing from the others. Waiters go on in the
    order in which they came, before anybody who finds the agent ready: `publish`, which makes it findable, is called
    after the last of them was woken.
    """

    __slots__ = ("_agent", "_publish", "_task", "_waiters")

    def __init__(self, build: Coroutine[object, object, Agent], publish: Callable[[Agent | None], None]) -> None:
        self._agent: Agent | None = None
        self._publish = publish
        self._waiters: list[asyncio.Future[Agent]] = []
        # Callers hold this object, and it holds the task, until the task has ended.
        self._task = asyncio.get_running_loop().create_task(build, context=copy_context())
        self._task.add_done_callback(self._ended)

    async def agent(self) -> Agent:
        """Wait for the agent.

        Raises:
            BaseException: what the factory raised.
        """
        waiter: asyncio.Future[Agent] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return await waiter

    def _ended(self, task: asyncio.Task[Agent]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._agent = task.result()
            self._wake_in_turn()
            return
        self._publish(None)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)

    def _wake_in_turn(self) -> None:
        """Wake those who wait. Whoever comes before they ran waits too, and is woken in the next round."""
        assert self._agent is not None
        if not self._waiters:
            self._publish(self._agent)
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(self._agent)
        asyncio.get_running_loop().call_soon(self._wake_in_turn)
