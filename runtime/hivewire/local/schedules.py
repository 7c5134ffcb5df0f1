"""The schedules of the local runtime: kept in memory, until they have fired or the runtime is closed.

A firing is a message like any other. What waits for its time is no work, so it keeps no runtime from becoming idle.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any

from hivewire.exceptions import RuntimeStateError
from hivewire.local.clock import Clock
from hivewire.local.work import Turn, Work
from hivewire.model.schedules import Schedule

__all__ = ["LocalSchedules"]

_logger = logging.getLogger("hivewire.local")


@dataclass(slots=True, kw_only=True, eq=False)
class _Entry:
    """A schedule with its message, what stops its timer, and the message of its last firing."""

    schedule: Schedule
    message: Any
    stop_timer: Callable[[], object] = lambda: None
    fired: Work | None = None


class LocalSchedules:
    """Delivers messages at their times.

    `deliver` accepts a message for its schedule; what it raises is logged, and a runtime that takes no messages for now
    is tried again by `resume`. `settled` waits until nothing runs.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        deliver: Callable[[Schedule, Any], Work | None],
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._deliver = deliver
        self._settled = settled
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, schedule: Schedule, message: Any) -> Schedule:
        """Add a schedule in place of another one of its id; an equal one is left as it is. Return what is there now."""
        there = self._entries.get(schedule.id)
        if there is not None:
            if replace(there.schedule, next_at=schedule.next_at) == schedule and there.message == message:
                return there.schedule
            there.stop_timer()
        entry = self._entries[schedule.id] = _Entry(schedule=schedule, message=message)
        self._arm(entry)
        return schedule

    def get(self, schedule_id: str) -> Schedule | None:
        entry = self._entries.get(schedule_id)
        return None if entry is None else entry.schedule

    def all(self) -> list[Schedule]:
        """Return the schedules by their next time."""
        return sorted((entry.schedule for entry in self._entries.values()), key=lambda each: (each.next_at, each.id))

    async def cancel(self, schedule_id: str) -> bool:
        """Remove a schedule; return whether it was there."""
        entry = self._entries.pop(schedule_id, None)
        if entry is None:
            return False
        entry.stop_timer()
        return True

    def resume(self) -> None:
        """Set all timers anew: the event loop may be another one, and what could not be delivered is overdue."""
        for entry in self._entries.values():
            self._arm(entry)

    def close(self) -> None:
        """Forget all schedules."""
        for entry in self._entries.values():
            entry.stop_timer()
        self._entries.clear()

    def _arm(self, entry: _Entry) -> None:
        entry.stop_timer()
        # A firing is caused by nobody: it must not seem to be part of the turn that scheduled it.
        context = Context()
        entry.stop_timer = self._clock.call_at(entry.schedule.next_at, lambda: context.run(self._on_timer, entry))

    def _on_timer(self, entry: _Entry) -> object:
        now = self._clock.now()
        if now < entry.schedule.next_at:
            self._arm(entry)
            return None
        # What a runtime that is not started, or a busy one, has missed is one message and not many.
        if entry.fired is None or not _waits(entry.fired):
            try:
                entry.fired = self._deliver(entry.schedule, entry.message)
            except RuntimeStateError as error:
                _logger.info("Schedule %s fires later: %s", entry.schedule.id, error)
                return None
            except Exception:
                _logger.exception("Schedule %s could not be delivered", entry.schedule.id)
        following = entry.schedule.rule.following(entry.schedule.next_at, now)
        if following is None:
            del self._entries[entry.schedule.id]
        else:
            entry.schedule = replace(entry.schedule, next_at=following)
            self._arm(entry)
        return _Settling(self._settled)


class _Settling:
    """An awaitable that need not be awaited, as a coroutine would have to be."""

    __slots__ = ("_settled",)

    def __init__(self, settled: Callable[[], Awaitable[None]]) -> None:
        self._settled = settled

    def __await__(self) -> Any:
        return self._settled().__await__()


def _waits(work: Work) -> bool:
    return not work.finished and not (isinstance(work, Turn) and work.started)
