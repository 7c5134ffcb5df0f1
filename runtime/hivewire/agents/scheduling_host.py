"""Schedules of a runtime that serves its agents over a network: checked here, kept and fired elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any

from hivewire.agents.serving_host import ServingHost
from hivewire.model.ids import AgentId, check_strict_agent_id
from hivewire.model.schedule_rules import ScheduleRule
from hivewire.model.schedules import Schedule, ScheduleHandle, check_schedule
from hivewire.model.serializer_registry import Encoded
from hivewire.model.topics import TopicId, check_strict_topic_id
from hivewire.telemetry import MessageTracer

__all__ = ["SchedulingHost"]

_NO_SPAN: AbstractContextManager[object] = nullcontext()


class SchedulingHost(ServingHost):
    """The part of such a runtime that takes schedules."""

    _tracer: MessageTracer

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
        """Send a message to one agent, or publish it to a topic, at a time or again and again; see `MessageScheduler`.

        Returns when the broker has stored it; it then outlives this process. Times are by the broker's clock. What a
        turn schedules is scheduled once, also when the turn is run again within two minutes.

        Raises:
            ValueError: not exactly one rule, or one that can't be followed.
            SerializationError: the message can't be encoded.
            MessageDroppedException: an intervention handler dropped it.
            MessageTooLargeError: it exceeds the broker's limit.
            BrokerUnavailableError: it was not stored within `publish_timeout`; whether it is stored is unknown.
            RuntimeStateError: not connected.
        """
        rule = ScheduleRule.of(at=at, after=after, every=every, cron=cron, time_zone=time_zone)
        check_schedule(id, target)
        await self._ready()
        if self._strict_ids:
            check_strict_agent_id(target) if isinstance(target, AgentId) else check_strict_topic_id(target)
        with self._span_of(message, target):
            schedule = await self._schedule(message, target, rule, id=id, sender=sender)
        return ScheduleHandle(schedule, self._cancel_schedule)

    async def list_schedules(self) -> list[Schedule]:
        """Return the schedules of the namespace that wait to fire, whoever made them, by their next time.

        Raises:
            BrokerUnavailableError: nobody answered in time.
            RuntimeStateError: not connected.
        """
        await self._ready()
        return await self._all_schedules()

    async def get_schedule(self, id: str) -> ScheduleHandle:
        """Find a schedule, whoever made it.

        Raises:
            ScheduleNotFoundError: there is none of that id, or it has fired for the last time.
            SerializationError, UnsupportedFormatError: it can't be read.
            BrokerUnavailableError: nobody answered in time.
            RuntimeStateError: not connected.
        """
        await self._ready()
        return ScheduleHandle(await self._find_schedule(id), self._cancel_schedule)

    @abstractmethod
    async def _ready(self) -> None:
        """Register what was adopted meanwhile, and raise `RuntimeStateError` unless there is a connection."""

    @abstractmethod
    async def _schedule(
        self, message: Any, target: AgentId | TopicId, rule: ScheduleRule, *, id: str | None, sender: AgentId | None
    ) -> Schedule: ...

    @abstractmethod
    async def _all_schedules(self) -> list[Schedule]: ...

    @abstractmethod
    async def _find_schedule(self, id: str) -> Schedule: ...

    @abstractmethod
    async def _cancel_schedule(self, id: str) -> bool: ...

    def _span_of(self, message: Any, destination: AgentId | TopicId) -> AbstractContextManager[object]:
        if not self._tracer.records:
            return _NO_SPAN
        type_name = message.type_name if isinstance(message, Encoded) else type(message).__name__
        return self._tracer.creating(destination, type_name=type_name)
