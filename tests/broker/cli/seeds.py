"""States, dead letters and schedules as agents leave them behind."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from hivewire.model.ids import AgentId
from hivewire.model.schedule_rules import ScheduleRule
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.state_values import encode_state
from hivewire.model.topics import TopicId
from hivewire.nats.broker import Broker, Stored
from hivewire.nats.buckets import Bucket
from hivewire.nats.dead_letters import DeadLetter, store_dead_letter
from hivewire.nats.envelope import EventEnvelope, encode_event
from hivewire.nats.provisioner import provision
from hivewire.nats.schedule_records import ScheduleRecord
from hivewire.nats.state_records import StateRecord
from hivewire.nats.stored_messages import StoredMessage, messages_of
from hivewire.nats.subjects import Subjects

T = TypeVar("T")


@dataclass(frozen=True)
class Seeds:
    """Writes into a namespace, which it makes."""

    url: str
    namespace: str

    def state(self, agent: str, state: Any, *, last: int = 0) -> None:
        record = StateRecord(
            agent=AgentId.from_str(agent), state=encode_state(state, SerializerRegistry()), stream="s", last=last
        )
        self.state_bytes(agent, record.to_json())

    def state_bytes(self, agent: str, record: bytes) -> None:
        async def write(broker: Broker, subjects: Subjects) -> None:
            key = subjects.state_key(*_parts(agent))
            bucket = Bucket(broker, subjects.state_bucket)
            await bucket.put(key, record, revision=(await bucket.get(key)).revision)

        self.run(write)

    def dead(self, *letters: DeadLetter) -> None:
        async def write(broker: Broker, subjects: Subjects) -> None:
            for each in letters:
                await store_dead_letter(broker, subjects, each)

        self.run(write)

    def raw_dead(self, agent: str, sequence: int, headers: dict[str, str]) -> None:
        """Store something else where a dead letter should be."""

        async def write(broker: Broker, subjects: Subjects) -> Stored:
            return await broker.store(subjects.dead(*_parts(agent), sequence), b"x", headers=headers)

        self.run(write)

    def schedule(
        self, schedule_id: str, target: str | TopicId, rule: ScheduleRule, due: datetime, *, sender: str | None = None
    ) -> None:
        """Let a schedule wait, whatever its rule says, until a time."""
        to = AgentId.from_str(target) if isinstance(target, str) else target
        event = EventEnvelope(
            topic=to if isinstance(to, TopicId) else TopicId(to.type, to.key),
            message_id=schedule_id,
            sender=None if sender is None else AgentId.from_str(sender),
            type_name="Greet",
            payload=b'{"name":"Ada"}',
            direct=isinstance(to, AgentId),
        )
        record = ScheduleRecord.of(schedule_id, to, rule, due, event)

        async def write(broker: Broker, subjects: Subjects) -> Stored:
            return await broker.store(subjects.schedule(schedule_id), record.payload, headers=record.timer(subjects))

        self.run(write)

    def inboxes(self) -> list[StoredMessage]:
        """Return what is stored in the inboxes of all agents."""

        async def read(broker: Broker, subjects: Subjects) -> list[StoredMessage]:
            return [each async for each in messages_of(broker, subjects.events_stream, subjects.inboxes)]

        return self.run(read)

    def run(self, what: Callable[[Broker, Subjects], Awaitable[T]]) -> T:
        return asyncio.run(self._run(what))

    async def _run(self, what: Callable[[Broker, Subjects], Awaitable[T]]) -> T:
        broker, subjects = Broker(self.url, name="seeds"), Subjects(self.namespace)
        await broker.open()
        try:
            await provision(broker, subjects)
            return await what(broker, subjects)
        finally:
            await broker.close()


def letter(agent: str, sequence: int, *, type_name: str = "Greet", **fields: Any) -> DeadLetter:
    """Return a dead letter of an event that was published to people/KEY."""
    of = AgentId.from_str(agent)
    envelope = EventEnvelope(
        topic=TopicId("people", of.key),
        message_id=f"message-{sequence}",
        sender=AgentId("host", "h"),
        type_name=type_name,
        payload=b'{"name":"Ada"}',
    )
    headers, payload = encode_event(envelope)
    values: dict[str, Any] = {
        "agent": of,
        "sequence": sequence,
        "stream": "2026-01-01T00:00:00Z",
        "subject": Subjects("n").stored_event(of.key, "people"),
        "error": "ValueError",
        "message": "nobody to greet",
        "traceback": 'Traceback (most recent call last):\n  File "a.py", line 1, in met\nValueError: nobody to greet\n',
        "attempts": 5,
        "instance": "pod-a",
        "session": "s1",
        "time": time.time(),
        "headers": headers,
        "payload": payload,
    }
    return DeadLetter(**{**values, **fields})


def _parts(agent: str) -> tuple[str, str]:
    of = AgentId.from_str(agent)
    return of.type, of.key
