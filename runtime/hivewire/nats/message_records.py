"""What the registry says about the messages of each type, beside the type's own record.

It is written by whoever registers the type, when it differs from what is there. It serves people and tools: that it
can't be written never keeps a type from being served.
"""

from __future__ import annotations

import asyncio
import logging

from hivewire.exceptions import HivewireError
from hivewire.model.type_messages import TypeMessages
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import Bucket, BucketView, Entry, WriteConflictError
from hivewire.nats.subjects import Subjects, type_token

log = logging.getLogger("hivewire.registry")

_KEYS = "*.messages"
_ATTEMPTS = 3
_WRITE_TIMEOUT_S = 5.0
_REFUSALS = (HivewireError, JetStreamError, TimeoutError)


class MessageRecords:
    """The records of all types, and, while `run` runs, a live view of them. `changes` counts what came or went."""

    def __init__(self, broker: Broker, subjects: Subjects) -> None:
        self._bucket = Bucket(broker, subjects.registry_bucket)
        self._view = BucketView(self._bucket, _KEYS, on_change=self._on_entry)
        self._types: dict[str, TypeMessages] = {}
        self.changes = 0

    async def run(self) -> None:
        """Keep the view until cancelled."""
        await self._view.run()

    @property
    def ready(self) -> asyncio.Event:
        """Set once the view was complete."""
        return self._view.ready

    def get(self, agent_type: str) -> TypeMessages | None:
        return self._types.get(_key(agent_type))

    async def write(self, messages: TypeMessages) -> None:
        """Write a record, unless it is there already. What goes wrong is logged."""
        key = _key(messages.type)
        try:
            payload = messages.to_json()
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                for _ in range(_ATTEMPTS):
                    entry = await self._bucket.get(key)
                    if entry.value == payload:
                        return
                    try:
                        await self._bucket.put(key, payload, revision=entry.revision)
                    except WriteConflictError:
                        continue
                    return
        except _REFUSALS as error:
            log.warning("what messages %s handles can't be told to others: %s", messages.type, error)

    def _on_entry(self, key: str, entry: Entry) -> None:
        self.changes += 1
        self._types.pop(key, None)
        if entry.value is None:
            return
        try:
            self._types[key] = TypeMessages.from_json(entry.value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("the registry's record %s can't be read: %r", key, error)


def _key(agent_type: str) -> str:
    return f"{type_token(agent_type)}.messages"
