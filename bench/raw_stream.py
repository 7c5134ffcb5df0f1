"""A JetStream stream that is like Hivewire's event stream, for sides that publish to it by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import nats
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

Publish = Callable[[str, str, bytes], Awaitable[int]]
"""Publishes a payload under a subject's last token and an id; returns its sequence when it is acknowledged."""


@asynccontextmanager
async def publishing(nats_url: str, name: str) -> AsyncIterator[Publish]:
    async with await nats.connect(nats_url) as connection:
        stream = connection.jetstream()
        await stream.add_stream(
            StreamConfig(
                name=name,
                subjects=[f"{name}.>"],
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                duplicate_window=120,
            )
        )

        async def publish(token: str, event_id: str, payload: bytes) -> int:
            acknowledged = await stream.publish(f"{name}.{token}", payload, headers={"Nats-Msg-Id": event_id})
            return acknowledged.seq

        yield publish
