"""What a test finds in the event stream, read by a client that knows nothing of the runtime."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nats

from hivewire.nats.subjects import Subjects

_DEADLINE_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """A message of the event stream."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    payload: bytes

    @property
    def id(self) -> str:
        return self.headers["ce-id"]

    @property
    def data(self) -> Any:
        return json.loads(self.payload)


async def stored_events(url: str, namespace: str) -> list[StoredEvent]:
    """Return all events of a namespace, in their order."""
    client = await nats.connect(url)
    try:
        js, subjects = client.jetstream(), Subjects(namespace)
        wanted = f"{namespace}.events.>"
        state = (await js.stream_info(subjects.events_stream, subjects_filter=wanted)).state
        events: list[StoredEvent] = []
        if not state.subjects:
            return events
        subscription = await js.subscribe(wanted, stream=subjects.events_stream, ordered_consumer=True)
        pending = -1
        async with asyncio.timeout(_DEADLINE_S):
            while pending:
                message = await subscription.next_msg(timeout=_DEADLINE_S)
                pending = message.metadata.num_pending
                events.append(
                    StoredEvent(
                        sequence=message.metadata.sequence.stream,
                        subject=message.subject,
                        headers=message.headers or {},
                        payload=message.data,
                    )
                )
        await subscription.unsubscribe()
        return events
    finally:
        await client.close()
