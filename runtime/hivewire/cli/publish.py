"""`hivewire publish`: one event."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from hivewire.cli.connection import open_runtime
from hivewire.cli.errors import UsageError, complain
from hivewire.cli.messages import JsonPayload, JsonPayloadSerializer, read_message
from hivewire.distributed import NatsAgentRuntime
from hivewire.model.topics import TopicId


def publish(topic: str, message: str, *, type_name: str, broker: str, namespace: str, credentials: str) -> None:
    """Publish an event; a warning tells when no agent type subscribes to its topic.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: there is no such namespace.
        HivewireError: there is no broker, or it did not store the event.
    """
    topic_id = _topic_id(topic)
    text, value = read_message(message)
    opening = open_runtime(broker, namespace, name="publish", credentials=credentials)
    asyncio.run(_publish(opening, topic_id, JsonPayload(text) if type_name else value, type_name))


async def _publish(
    opening: AbstractAsyncContextManager[NatsAgentRuntime], topic_id: TopicId, message: object, type_name: str
) -> None:
    async with opening as runtime:
        if type_name:
            runtime.add_message_serializer(JsonPayloadSerializer(type_name))
        await runtime.publish_message(message, topic_id)
        if runtime.unrouted_messages_count:
            complain(f"the event is stored, but no agent type subscribes to topic type {topic_id.type!r}")


def _topic_id(text: str) -> TopicId:
    try:
        text.encode()
        return TopicId.from_str(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
