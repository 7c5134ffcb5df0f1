"""Turns whose handlers go on though nobody waits for them any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hivewire.local.work import Turn
from hivewire.logging import lines_about
from hivewire.model import grace

__all__ = ["OverdueTurns"]

_logger = logging.getLogger("hivewire.local")


class OverdueTurns:
    """Cancels the task of a handler that has not ended within the grace time after its token was cancelled.

    One that outlasts the grace time once more is left behind: it still runs, but nothing waits for it. Each step is an
    error in the log that names the agent. A handler that ends in time costs nothing but a timer.
    """

    def __init__(self, leave_behind: Callable[[Turn], None]) -> None:
        self._leave_behind = leave_behind

    def watch(self, turn: Turn) -> None:
        """Take in a turn whose handler runs. When it ends, its `overdue_timer` is to be cancelled."""
        self._give_grace_time(turn, self._cancel)

    def _cancel(self, turn: Turn, grace_s: float) -> None:
        _logger.error(
            "The handler of %s goes on %g s after its message was cancelled, and is cancelled as a task now: let it end"
            " when its ctx.cancellation_token says so (%s)",
            turn.recipient,
            grace_s,
            turn,
        )
        # It may tidy up once more.
        self._give_grace_time(turn, self._leave)
        turn.token._noticed = True
        if turn.task is not None:
            turn.task.cancel()

    def _leave(self, turn: Turn, grace_s: float) -> None:
        _logger.error(
            "The handler of %s goes on %g s after its task was cancelled, and is left behind: it must not swallow"
            " asyncio.CancelledError (%s)",
            turn.recipient,
            grace_s,
            turn,
        )
        self._leave_behind(turn)

    def _give_grace_time(self, turn: Turn, step: Callable[[Turn, float], None]) -> None:
        loop = asyncio.get_running_loop()
        turn.ends_at = loop.time() + grace.GRACE_S
        # A timer runs in the context that it is made in.
        with lines_about(turn):
            turn.overdue_timer = loop.call_at(turn.ends_at, step, turn, grace.GRACE_S)
