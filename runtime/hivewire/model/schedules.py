"""Schedules as a program sees them, and what a runtime that keeps them can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from hivewire.model.ids import AgentId
from hivewire.model.schedule_rules import ScheduleRule, utc_text
from hivewire.model.topics import TopicId

__all__ = ["MessageScheduler", "Schedule", "ScheduleHandle", "check_schedule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A message that is to be delivered later, once or again and again.

    `target` is the agent that gets it, or the topic that it is published to. `message_type` is the name of its type.
    `next_at`, in UTC, is when it is due; a time that has passed means that it is being delivered. `sender` is None when
    no agent scheduled it.
    """

    id: str
    target: AgentId | TopicId
    message_type: str
    rule: ScheduleRule
    next_at: datetime
    sender: AgentId | None = None

    @property
    def firing_id(self) -> str:
        """The id of the message that is sent at `next_at`: each firing has another one."""
        return f"{self.id}@{utc_text(self.next_at)}"


class ScheduleHandle:
    """A schedule that can be cancelled. `schedule` is what it was when the handle was made."""

    __slots__ = ("_cancel", "schedule")

    def __init__(self, schedule: Schedule, cancel: Callable[[str], Awaitable[bool]]) -> None:
        self.schedule = schedule
        self._cancel = cancel

    def __repr__(self) -> str:
        return f"<ScheduleHandle {self.id!r} {self.schedule.rule}>"

    @property
    def id(self) -> str:
        return self.schedule.id

    async def cancel(self) -> bool:
        """Let it fire no more, whoever scheduled it; return False when there was nothing left to fire.

        A firing that is on its way to its agent still arrives.
        """
        return await self._cancel(self.id)


@runtime_checkable
class MessageScheduler(Protocol):
    """A runtime that delivers messages at a time.

    It is apart from `AgentRuntime`, so that a runtime without schedules stays one.
    """

    async def schedule_message(
        self,
        message: Any,
        target: AgentId | TopicId,
        *,
        at: datetime | None = None,
        after: float | timedelta | None = None,
        every: float | timedelta | None = None,
        cron: str | None = None,
        time_zone: str | None = None,
        id: str | None = None,
        sender: AgentId | None = None,
    ) -> ScheduleHandle:
        """Send a message to one agent, or publish it to a topic, at a time or again and again.

        `at` is an aware datetime, `after` and `every` are seconds or a timedelta from now, `every` at least one second.
        `cron` is a crontab line of five fields or a name such as `@daily`, in `time_zone`, an IANA name, UTC unless
        given. Exactly one of the four is given.

        With an `id` that is taken, an equal schedule is left as it is, and another one is replaced.

        Raises:
            ValueError: not exactly one of the four, or one that can't be followed.
            SerializationError: the message can't be encoded.
        """
        ...

    async def list_schedules(self) -> list[Schedule]:
        """Return the schedules that wait to fire, by their next time."""
        ...

    async def get_schedule(self, id: str) -> ScheduleHandle:
        """Find a schedule.

        Raises:
            ScheduleNotFoundError: there is none of that id, or it has fired for the last time.
        """
        ...


def check_schedule(id: str | None, target: object) -> None:
    """Refuse an id that names nothing, and a target that is none.

    Raises:
        ValueError: the id is empty.
        TypeError: the target is neither an agent's id nor a topic's.
    """
    if not isinstance(target, AgentId | TopicId):
        raise TypeError(f"A schedule's target is an AgentId or a TopicId, and not {target!r}")
    if id == "":
        raise ValueError("A schedule's id can't be empty: leave it out to get a new one")
