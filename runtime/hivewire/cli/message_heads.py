"""Stored messages without their payloads: who sent what to whom, and what came of what.

Headers alone are read, so a long stream takes a fraction of the time, and nothing of a message's contents is seen.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hivewire.cli.waiting import first_of
from hivewire.exceptions import BrokerUnavailableError
from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.broker import Broker
from hivewire.nats.dead_letters import LINEAGE_HEADER
from hivewire.nats.envelope import EnvelopeError, decode_event
from hivewire.nats.header_text import unquoted
from hivewire.nats.incoming import addressed_key
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.subjects import Subjects, type_of_token
from hivewire.nats.tokens import token

_BATCH = 1_000
_WINDOW = 2_000
_SILENCE_S = 20.0
_trace_of: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageHead:
    """What the headers of an event tell. `recipient` is there for a message to one agent alone, with the token of its
    key. `lineage` are the sequences that a replayed message had before."""

    sequence: int
    stored_at: datetime
    id: str
    topic: TopicId
    sender: AgentId | None
    type_name: str
    size_bytes: int
    trace_id: str | None
    span_id: str | None
    recipient: AgentId | None
    key_token: str
    lineage: tuple[int, ...]


def id_of(headers: Mapping[str, str]) -> str | None:
    """Return the id of an event; None where the headers don't tell it."""
    value = headers.get("ce-id")
    if value is None:
        value = next((value for name, value in headers.items() if name.lower() == "ce-id"), None)
    if value is None or "%" not in value:
        return value
    try:
        return unquoted(value)
    except EnvelopeError:
        return value


def trace_of(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the trace and the span that a message was sent in."""
    found = _trace_of(headers.get("traceparent") or headers.get("ce-traceparent") or "")
    return None if found is None else (found[1], found[2])


def is_structured(headers: Mapping[str, str]) -> bool:
    """Tell whether what an event says of itself is in its payload."""
    value = headers.get("content-type") or headers.get("Content-Type") or ""
    return value.lower().startswith("application/cloudevents")


def read_head(message: StreamMessage, subjects: Subjects) -> MessageHead | None:
    """Read the headers of an event or of a message to one agent; None for what is neither."""
    headers = message.headers
    try:
        envelope = decode_event(headers, b"")
        recipient, key_token = None, token(envelope.topic.source)
        if message.subject.startswith(subjects.inboxes.removesuffix(">")):
            address = subjects.parse_inbox(message.subject)
            named = headers.get("Hw-Key")
            key = addressed_key(address.key_token, None if named is None else unquoted(named))
            recipient, key_token = AgentId(type_of_token(address.type_token) or "?", key), address.key_token
    except (EnvelopeError, ValueError):
        return None
    trace_id, span_id = trace_of(headers) or (None, None)
    return MessageHead(
        sequence=message.sequence,
        stored_at=message.stored_at,
        id=envelope.message_id,
        topic=envelope.topic,
        sender=envelope.sender,
        type_name=envelope.type_name,
        size_bytes=int(headers.get("Nats-Msg-Size") or len(message.payload)),
        trace_id=trace_id,
        span_id=span_id,
        recipient=recipient,
        key_token=key_token,
        lineage=lineage_of(headers),
    )


def lineage_of(headers: Mapping[str, str]) -> tuple[int, ...]:
    """Return the sequences that a replayed message had before."""
    return tuple(int(each) for each in headers.get(LINEAGE_HEADER, "").split(",") if each.isdecimal())


async def read_headers(
    broker: Broker,
    stream: str,
    filters: Sequence[str],
    *,
    first: int,
    last: int,
    take: Callable[[StreamMessage], None],
) -> None:
    """Hand the messages of a stream that match, from one sequence to another, to `take`, without their payloads.

    Raises:
        BrokerUnavailableError: nothing came for 20 s.
    """
    if first > last:
        return
    read_through = first - 1
    ended = asyncio.Event()

    def on_message(message: StreamMessage) -> None:
        nonlocal read_through
        if message.sequence <= last and message.sequence > read_through:
            read_through = message.sequence
            if not silence.expired():
                silence.reschedule(asyncio.get_running_loop().time() + _SILENCE_S)
            take(message)
        if message.sequence >= last or message.pending == 0:
            ended.set()

    def on_made(waiting: int) -> None:
        if not waiting:
            ended.set()

    reader = StreamReader(
        broker,
        stream,
        filters=lambda: filters,
        start=lambda: read_through + 1,
        on_message=on_message,
        room=lambda: _WINDOW,
        on_made=on_made,
        tidy=True,
        headers_only=True,
        batch=_BATCH,
    )
    try:
        async with asyncio.timeout(_SILENCE_S) as silence:
            await first_of(reader.run(), ended.wait())
    except TimeoutError:
        raise BrokerUnavailableError(
            f"Nothing came from the stream {stream} for {_SILENCE_S:g} s: is this login allowed to read it?"
        ) from None
