"""The schedules of a namespace: made, found and cancelled. Whoever serves agents forwards their firings.

A schedule is on its own subject while its timer runs. While it is firing it is, for a moment or as long as nobody
serves, on the subject of its firings only; so whoever looks for a schedule looks at both, the timer first.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from hivewire.exceptions import MessageTooLargeError, SerializationError, UndeliverableException
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext, current_turn
from hivewire.model.ids import AgentId
from hivewire.model.interventions import InterventionChain
from hivewire.model.schedule_rules import ScheduleRule
from hivewire.model.schedules import Schedule
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.topics import TopicId
from hivewire.nats.broker import Broker, JetStreamError, Stored
from hivewire.nats.dead_letters import STORY_BYTES
from hivewire.nats.envelope import EventEnvelope
from hivewire.nats.schedule_records import ScheduleRecord
from hivewire.nats.server_clock import ServerClock
from hivewire.nats.stored_messages import StoredMessage, last_message_of, messages_of
from hivewire.nats.subjects import Subjects
from hivewire.telemetry import MessageTracer

_TAKEN: Final = (10071, 10164)
_TOO_LARGE: Final = (10054, 10097)
_ATTEMPTS: Final = 10
"""How often another process may change the same schedule while this one does, before that is an error."""


class ScheduleStore:
    """Finds and cancels schedules.

    All methods raise `JetStreamError` for what JetStream refuses, and `BrokerUnavailableError` when nobody answers.
    """

    def __init__(self, broker: Broker, subjects: Subjects) -> None:
        self._broker = broker
        self._subjects = subjects
        self._stream = subjects.schedules_stream

    async def all(self) -> tuple[list[ScheduleRecord], list[str]]:
        """Return those that wait to fire or to be forwarded, by their time, and what can't be read, as text."""
        found: dict[str, ScheduleRecord] = {}
        unreadable: list[str] = []
        # A timer that fires meanwhile is found as a firing, if it is looked for first.
        forwarded = await self._forwarded()
        for pattern in (self._subjects.schedules, self._subjects.dues):
            async for message in messages_of(self._broker, self._stream, pattern):
                if pattern == self._subjects.dues and message.sequence <= forwarded:
                    continue
                try:
                    record = ScheduleRecord.decode(message.headers, message.payload)
                except (SerializationError, ValueError) as error:
                    unreadable.append(f"{message.subject}: {error}")
                else:
                    found.setdefault(record.id, record)
        return sorted(found.values(), key=lambda record: (record.due, record.id)), unreadable

    async def get(self, schedule_id: str) -> ScheduleRecord | None:
        """Return one schedule; None when there is none, or it has fired for the last time.

        Raises:
            SerializationError, UnsupportedFormatError: it can't be read.
        """
        waiting = await self.timer(schedule_id)
        if waiting is None:
            waiting = await self._firing(schedule_id)
        return None if waiting is None else ScheduleRecord.decode(waiting.headers, waiting.payload)

    async def cancel(self, schedule_id: str) -> bool:
        """Remove a schedule; return whether it would have fired again."""
        firing = await self._firing(schedule_id)
        # In this order: who forwards a firing sets the next timer only if the firing is still there.
        await self.drop_firings(schedule_id)
        purged = await self._purge(self._subjects.schedule(schedule_id))
        return purged > 0 or firing is not None

    async def timer(self, schedule_id: str) -> StoredMessage | None:
        """Return the timer of a schedule, if it runs."""
        return await last_message_of(self._broker, self._stream, self._subjects.schedule(schedule_id))

    async def last_firing(self, schedule_id: str) -> StoredMessage | None:
        """Return the last firing of a schedule, which may be forwarded already."""
        return await last_message_of(self._broker, self._stream, self._subjects.due(schedule_id))

    async def drop_firings(self, schedule_id: str) -> None:
        """Remove the firings of a schedule that are not forwarded yet."""
        await self._purge(self._subjects.due(schedule_id))

    async def _firing(self, schedule_id: str) -> StoredMessage | None:
        """Return the firing that waits to be forwarded, if there is one."""
        firing = await self.last_firing(schedule_id)
        return None if firing is None or firing.sequence <= await self._forwarded() else firing

    async def _forwarded(self) -> int:
        """Return the sequence up to which all firings are forwarded."""
        info = await self._broker.api(f"CONSUMER.INFO.{self._stream}.{self._subjects.forward_consumer}")
        return int(info["ack_floor"]["stream_seq"])

    async def _purge(self, subject: str) -> int:
        answer = await self._broker.api(f"STREAM.PURGE.{self._stream}", {"filter": subject})
        return int(answer["purged"])


class Scheduling:
    """Makes schedules for one runtime."""

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        serializers: SerializerRegistry,
        interventions: InterventionChain,
        tracer: MessageTracer,
        *,
        timeout: float,
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._serializers = serializers
        self._interventions = interventions
        self._tracer = tracer
        self._timeout = timeout
        self.clock = ServerClock(broker, subjects.schedules_stream)
        self.store = ScheduleStore(broker, subjects)

    async def schedule(
        self,
        message: Any,
        target: AgentId | TopicId,
        rule: ScheduleRule,
        *,
        schedule_id: str | None,
        sender: AgentId | None,
    ) -> Schedule:
        """Store a schedule and return it, or the equal one that is there under its id.

        Raises:
            MessageDroppedException: an intervention handler dropped the message.
            UndeliverableException: it was not stored.
            ValueError: the rule has no next time.
        """
        turn = current_turn()
        derived: str | None = None
        if turn is not None:
            # The same whenever the turn is run again, so that it schedules once.
            derived = turn.next_id()
        name = schedule_id or derived or secrets.token_hex(12)
        message = await self._intercepted(message, target, sender, name)
        encoded = self._serializers.encode(message)
        now = await self.clock.now()
        event = EventEnvelope(
            topic=target if isinstance(target, TopicId) else TopicId(target.type, target.key),
            message_id=name,
            sender=sender,
            type_name=encoded.type_name,
            content_type=encoded.content_type,
            payload=encoded.payload,
            # A schedule that goes on for years is no part of the trace that began it.
            trace=self._tracer.inject() if self._tracer.enabled and not rule.repeats else {},
            direct=isinstance(target, AgentId),
        )
        record = ScheduleRecord.of(name, target, rule, rule.first(now), event)
        if schedule_id is not None:
            return await self._settle(record, derived)
        try:
            await self._store(record, expected=0, identity=derived)
        except _TakenError:
            # An earlier run of the same turn made it.
            pass
        return record.schedule

    async def _settle(self, record: ScheduleRecord, identity: str | None) -> Schedule:
        """Leave an equal schedule as it is, and replace another one."""
        for _ in range(_ATTEMPTS):
            timer = await self.store.timer(record.id)
            firing = None if timer is not None else await self.store.last_firing(record.id)
            stored = _readable(timer or firing)
            if stored is not None and stored.same_as(record) and (timer is not None or stored.rule.repeats):
                return stored.schedule
            if firing is not None and (stored is None or not stored.same_as(record)):
                await self.store.drop_firings(record.id)
            try:
                expected = 0 if timer is None else timer.sequence
                # The id of a replacement must not be taken for that of what it replaces.
                await self._store(record, expected=expected, identity=identity)
                return record.schedule
            except _TakenError:
                continue
        raise UndeliverableException(
            f"Schedule {record.id!r} was not stored: other processes change it at the same time, so give each their own"
        )

    async def _store(self, record: ScheduleRecord, *, expected: int, identity: str | None) -> Stored:
        headers = record.timer(self._subjects)
        headers["Nats-Expected-Last-Subject-Sequence"] = str(expected)
        if identity is not None:
            headers["Nats-Msg-Id"] = identity
        subject = self._subjects.schedule(record.id)
        self._broker.check_size(subject, record.payload, headers, reserve=STORY_BYTES)
        try:
            return await self._broker.store(subject, record.payload, headers=headers, timeout=self._timeout)
        except JetStreamError as error:
            if error.code in _TAKEN:
                raise _TakenError from error
            if error.code in _TOO_LARGE:
                raise MessageTooLargeError(
                    f"Schedule {record.id!r} is larger than its stream takes: {error}"
                ) from error
            raise UndeliverableException(f"Schedule {record.id!r} was not stored: {error}") from error

    async def _intercepted(
        self, message: Any, target: AgentId | TopicId, sender: AgentId | None, schedule_id: str
    ) -> Any:
        if not self._interventions:
            return message
        topic = target if isinstance(target, TopicId) else None
        context = MessageContext(
            sender=sender,
            topic_id=topic,
            is_rpc=topic is None,
            cancellation_token=CancellationToken(),
            message_id=schedule_id,
        )
        if isinstance(target, AgentId):
            return await self._interventions.on_send(message, message_context=context, recipient=target)
        return await self._interventions.on_publish(message, message_context=context)


class _TakenError(Exception):
    """Somebody else wrote the schedule meanwhile."""


def _readable(message: StoredMessage | None) -> ScheduleRecord | None:
    if message is None:
        return None
    try:
        return ScheduleRecord.decode(message.headers, message.payload)
    except ValueError:
        # Whatever it is, it is not what is wanted now.
        return None
