"""Events over NATS, published and handled in one process, so that all that they cost is in one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.addresses import Addresses
from bench.load import MAX_CALLERS, TEXT, Call
from hivewire import MessageContext, NatsAgentRuntime, RoutedAgent, TopicId, event, type_subscription


@dataclass
class Note:
    text: str


_handled: dict[str, asyncio.Event] = {}


@type_subscription("notes")
class Reader(RoutedAgent):
    @event
    async def on_note(self, message: Note, ctx: MessageContext) -> None:
        assert message.text == TEXT
        _handled[self.id.key].set()


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    async with publishing(addresses.nats_url, namespace="measured") as publish:
        yield publish


@asynccontextmanager
async def publishing(nats_url: str, *, namespace: str) -> AsyncIterator[Call]:
    """Give what publishes an event and waits until it is handled."""
    topics = [TopicId("notes", f"caller-{number}") for number in range(MAX_CALLERS)]
    _handled.update({topic.source: asyncio.Event() for topic in topics})
    async with NatsAgentRuntime(nats_url, namespace=namespace) as runtime:
        await Reader.register(runtime, "reader", Reader)

        async def publish(caller: int) -> None:
            handled = _handled[topics[caller].source]
            handled.clear()
            await runtime.publish_message(Note(TEXT), topics[caller])
            await handled.wait()

        yield publish
