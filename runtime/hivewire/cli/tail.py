"""`hivewire tail`: the events of a topic as they pass, whoever subscribes to them."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hivewire.cli.connection import Namespace, open_namespace
from hivewire.cli.errors import UsageError, complain, one_line
from hivewire.cli.messages import payload_as_json
from hivewire.cli.terminal import shortened, width
from hivewire.cli.waiting import first_of
from hivewire.exceptions import UnsupportedFormatError
from hivewire.model.topics import TopicId
from hivewire.nats.envelope import EnvelopeError, EventEnvelope, decode_event
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.topic_filters import TopicFilter

_WINDOW = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """A stored event, and when it was stored."""

    sequence: int
    stored_at: datetime
    envelope: EventEnvelope


def tail(topic: str, *, from_start: bool, as_json: bool, broker: str, namespace: str, credentials: str) -> None:
    """Print events until interrupted.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: there is no such namespace.
        HivewireError: there is no broker.
    """
    wanted = topic_filter(topic)
    opening = open_namespace(broker, namespace, name="tail", credentials=credentials)
    try:
        asyncio.run(_follow(opening, wanted, from_start, as_json))
    except KeyboardInterrupt:
        # This is how it is meant to end.
        pass


def topic_filter(topic: str) -> TopicFilter:
    """Read a topic type, or a prefix that ends in ``*``.

    Raises:
        UsageError: it can't be a topic type.
    """
    prefix = topic.endswith("*")
    value = topic.removesuffix("*")
    found = TopicFilter(kind="prefix" if prefix else "exact", value=value)
    try:
        if value or not prefix:
            TopicId(value, "")
        found.tail()
    except ValueError as error:
        raise UsageError(f"{error}; a * may stand at its end only") from None
    return found


def event_as_line(event: SeenEvent, width: int) -> str:
    """Describe an event on one line of at most `width` characters: time, topic, source, sender, type, payload."""
    envelope = event.envelope
    sender = f" from {envelope.sender}" if envelope.sender else ""
    payload = payload_as_json(envelope.type_name, envelope.content_type, envelope.payload)
    time = event.stored_at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return shortened(one_line(f"{time} {envelope.topic}{sender} {envelope.type_name or '?'} {payload}"), width)


def event_as_json(event: SeenEvent) -> dict[str, Any]:
    """Describe an event with its whole payload."""
    envelope = event.envelope
    return {
        "time": event.stored_at.isoformat(),
        "sequence": event.sequence,
        "topic": envelope.topic.type,
        "source": envelope.topic.source,
        "sender": envelope.sender and str(envelope.sender),
        "id": envelope.message_id,
        "type": envelope.type_name,
        "content_type": envelope.content_type,
        "payload": json.loads(payload_as_json(envelope.type_name, envelope.content_type, envelope.payload)),
    }


async def _follow(
    opening: AbstractAsyncContextManager[Namespace], wanted: TopicFilter, from_start: bool, as_json: bool
) -> None:
    async with opening as opened:
        messages: asyncio.Queue[StreamMessage] = asyncio.Queue()
        first = 1 if from_start else opened.last_sequence + 1
        last_queued = first - 1

        def take(message: StreamMessage) -> None:
            nonlocal last_queued
            last_queued = message.sequence
            messages.put_nowait(message)

        reader = StreamReader(
            opened.broker,
            opened.subjects.events_stream,
            filters=lambda: opened.subjects.stored_event_filters([wanted.tail()], 0, 1),
            start=lambda: last_queued + 1,
            on_message=take,
            room=lambda: _WINDOW - messages.qsize(),
        )
        await first_of(reader.run(), _print_events(messages, reader, wanted, as_json))


async def _print_events(
    messages: asyncio.Queue[StreamMessage], reader: StreamReader, wanted: TopicFilter, as_json: bool
) -> None:
    while True:
        message = await messages.get()
        reader.wake()
        event = _read(message)
        # The server's filter is wider than a prefix that ends inside of a word.
        if event is None or not wanted.matches(event.envelope.topic.type):
            continue
        if as_json:
            print(json.dumps(event_as_json(event), ensure_ascii=False), flush=True)
        else:
            print(event_as_line(event, width()), flush=True)


def _read(message: StreamMessage) -> SeenEvent | None:
    try:
        envelope = decode_event(message.headers, message.payload)
    except (EnvelopeError, UnsupportedFormatError) as error:
        complain(f"event {message.sequence} can't be read: {error}")
        return None
    return SeenEvent(sequence=message.sequence, stored_at=message.stored_at, envelope=envelope)
