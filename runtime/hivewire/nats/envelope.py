"""Events as CloudEvents and direct messages as bare NATS messages: headers and payload, to and from values.

An event is a CloudEvent in binary mode (CloudEvents 1.0, NATS protocol binding), so any producer and any reader of
CloudEvents can take part. A direct message is not a CloudEvent: every header costs throughput, so it has two, and
others only where something differs from the usual. The id of a call is in no header: it is the last token of the
subject that the reply goes to.

A message of a newer format says so in one more header, and is refused: this process would misread it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal, cast, get_args

from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.cloud_events import DEFAULT_CONTENT_TYPE, read_cloud_event
from hivewire.nats.formats import FORMAT_HEADER, check_format_header
from hivewire.nats.header_text import EnvelopeError, quoted, trace_of, unquoted

__all__ = [
    "DEFAULT_CONTENT_TYPE",
    "EXPIRED",
    "NONE_TYPE_NAME",
    "CallEnvelope",
    "CallOperation",
    "EnvelopeError",
    "EventEnvelope",
    "ReplyEnvelope",
    "ReplyStatus",
    "call_id_of",
    "decode_call",
    "decode_event",
    "decode_reply",
    "deduplication_id",
    "encode_call",
    "encode_event",
    "encode_reply",
]

NONE_TYPE_NAME: Final = "NoneType"
"""The type name of the value None, whose payload is ``null``."""

EXPIRED: Final = b"deadline"
"""What a cancel says whose call was given up at its deadline."""

CallOperation = Literal["message", "metadata", "save_state", "load_state"]
"""What a request asks of an agent: to handle a message, to describe itself, to give or to take its state."""

ReplyStatus = Literal["value", "end", "error", "alive", "moved", "overloaded"]
"""What a reply says.

``value`` and ``error`` are the outcome. A numbered ``value`` is a chunk of a streamed answer, whose outcome is ``end``
or ``error``, numbered too. ``alive`` says that the call is still queued or running. ``moved`` and ``overloaded`` say
that it was not executed: the receiver doesn't own the shard, or has no room.
"""


# Not frozen: that would make an envelope three times as slow to build, and a call and its answer need four.
@dataclass(slots=True, kw_only=True)
class EventEnvelope:
    """An event and what travels with it.

    `type_name` is empty for an event of a producer that doesn't name the type of its data. `direct`: in the inbox of an
    agent it is a message to that agent alone, who sees no topic.
    """

    topic: TopicId
    message_id: str
    sender: AgentId | None = None
    type_name: str
    content_type: str = DEFAULT_CONTENT_TYPE
    payload: bytes
    trace: Mapping[str, str] = field(default_factory=dict)
    direct: bool = False


@dataclass(slots=True, kw_only=True)
class CallEnvelope:
    """A request to one agent and what travels with it.

    `left_ms` is the time the caller still waits. `message_id` is None when it is the call id, `key` is None when the
    subject tells it. `chain` holds the ids of the turns that caused the call, outermost first. `kept` asks to store the
    answer, as a stream under the call id. `type_name` is empty for an operation other than ``message``.
    """

    type_name: str = ""
    payload: bytes
    left_ms: int
    content_type: str = DEFAULT_CONTENT_TYPE
    operation: CallOperation = "message"
    sender: AgentId | None = None
    message_id: str | None = None
    key: str | None = None
    chain: tuple[str, ...] = ()
    kept: bool = False
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class ReplyEnvelope:
    """A reply to a request. Only a ``value`` has a type name; a ``value`` and an ``error`` have a payload. `number` is
    that of a message of a streamed answer, from 1."""

    status: ReplyStatus = "value"
    type_name: str = ""
    content_type: str = DEFAULT_CONTENT_TYPE
    payload: bytes = b""
    number: int | None = None


def encode_event(envelope: EventEnvelope) -> tuple[dict[str, str], bytes]:
    """Write an event as a CloudEvent in binary mode.

    Raises:
        EnvelopeError: A text is not valid Unicode, or the content type is not visible ASCII text.
    """
    topic, sender = envelope.topic, envelope.sender
    # The binding carries the content type as it is, so it must itself be fit for a header.
    if not _is_content_type(envelope.content_type):
        raise EnvelopeError(f"the content type {envelope.content_type!r} is not visible ASCII text")
    headers = {
        "ce-specversion": "1.0",
        "ce-id": quoted(envelope.message_id),
        "ce-type": quoted(topic.type),
        "ce-source": quoted(topic.source),
        "ce-agmsgkind": _DIRECT if envelope.direct else "publish",
        "content-type": envelope.content_type,
    }
    if envelope.type_name:
        headers["ce-dataschema"] = quoted(envelope.type_name)
    if sender is not None:
        headers["ce-agagentsendertype"] = quoted(sender.type)
        headers["ce-agagentsenderkey"] = quoted(sender.key)
    if envelope.trace:
        headers.update(envelope.trace)
    headers["Nats-Msg-Id"] = deduplication_id(topic, envelope.message_id)
    return headers, envelope.payload


def decode_event(headers: Mapping[str, str] | None, payload: bytes) -> EventEnvelope:
    """Read an event of any CloudEvents producer, in binary or in structured mode.

    Raises:
        EnvelopeError: Not a CloudEvent, or one that can't be an event here; the text says what is missing.
        UnsupportedFormatError: A newer version of Hivewire sent it.
    """
    event = read_cloud_event(headers, payload)
    attributes = event.attributes
    check_format_header(attributes.get(FORMAT_HEADER), "an event")
    try:
        topic = TopicId(attributes["ce-type"], attributes["ce-source"])
    except ValueError as error:
        raise EnvelopeError(f"a CloudEvent whose ce-type can't be a topic type: {error}") from error
    sender_type, sender_key = attributes.get("ce-agagentsendertype"), attributes.get("ce-agagentsenderkey")
    return EventEnvelope(
        topic=topic,
        message_id=attributes["ce-id"],
        sender=None if sender_type is None or sender_key is None else _agent_id(sender_type, sender_key),
        type_name=attributes.get("ce-dataschema", ""),
        content_type=event.content_type,
        payload=event.data,
        trace=event.trace,
        direct=attributes.get("ce-agmsgkind") == _DIRECT,
    )


def deduplication_id(topic: TopicId, message_id: str) -> str:
    """Return the ``Nats-Msg-Id`` of an event: 32 hex digits, different for a different topic or message id."""
    digest = sha256()
    for text in (topic.type, topic.source, message_id):
        data = text.encode()
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:32]


def encode_call(envelope: CallEnvelope) -> tuple[dict[str, str], bytes]:
    """Write a request.

    Raises:
        EnvelopeError: A text is not valid Unicode.
    """
    headers = {"Hw-Type": quoted(envelope.type_name), "Hw-Left": str(envelope.left_ms)}
    if envelope.operation != "message":
        headers["Hw-Op"] = envelope.operation
    if envelope.content_type != DEFAULT_CONTENT_TYPE:
        headers["Hw-Content"] = quoted(envelope.content_type)
    if envelope.sender is not None:
        headers["Hw-Sender"] = quoted(f"{envelope.sender.type}/{envelope.sender.key}")
    if envelope.message_id is not None:
        headers["Hw-Id"] = quoted(envelope.message_id)
    if envelope.key is not None:
        headers["Hw-Key"] = quoted(envelope.key)
    if envelope.chain:
        headers["Hw-Chain"] = ",".join([quoted(turn_id).replace(",", "%2C") for turn_id in envelope.chain])
    if envelope.kept:
        headers["Hw-Stream"] = "keep"
    if envelope.trace:
        headers.update(envelope.trace)
    return headers, envelope.payload


def decode_call(headers: Mapping[str, str] | None, payload: bytes) -> CallEnvelope:
    """Read a request.

    Raises:
        EnvelopeError: A header is missing or malformed.
        UnsupportedFormatError: A newer version of Hivewire sent it.
    """
    if headers is None:
        raise EnvelopeError("a request without the headers Hw-Type and Hw-Left")
    type_name, left = headers.get("Hw-Type"), headers.get("Hw-Left")
    if len(headers) != 2 or type_name is None or left is None:
        check_format_header(headers.get("Hw-Format"), "a request")
    if type_name is None or left is None:
        raise EnvelopeError(f"a request without the header {'Hw-Type' if type_name is None else 'Hw-Left'}")
    if not _is_count(left):
        raise EnvelopeError(f"the header Hw-Left of a request is {left!r} and not a number of milliseconds")
    if len(headers) == 2:
        return CallEnvelope(type_name=unquoted(type_name), payload=payload, left_ms=int(left))
    operation = headers.get("Hw-Op", "message")
    if operation not in _CALL_OPERATIONS:
        raise EnvelopeError(f"a request for the unknown operation {operation!r}")
    chain = headers.get("Hw-Chain")
    stream = headers.get("Hw-Stream")
    if stream not in (None, "keep"):
        raise EnvelopeError(f"the header Hw-Stream of a request is {stream!r} and not 'keep'")
    return CallEnvelope(
        type_name=unquoted(type_name),
        payload=payload,
        left_ms=int(left),
        content_type=unquoted(headers.get("Hw-Content", DEFAULT_CONTENT_TYPE)),
        operation=cast(CallOperation, operation),
        sender=_sender_of(headers.get("Hw-Sender")),
        message_id=_optional(headers.get("Hw-Id")),
        key=_optional(headers.get("Hw-Key")),
        chain=tuple([unquoted(turn_id) for turn_id in chain.split(",")]) if chain else (),
        kept=stream is not None,
        trace=trace_of(headers),
    )


def encode_reply(envelope: ReplyEnvelope) -> tuple[dict[str, str], bytes]:
    """Write a reply.

    Raises:
        EnvelopeError: A text is not valid Unicode.
    """
    if envelope.status != "value":
        headers = {"Hw-Status": str(envelope.status)}
    else:
        headers = {"Hw-Type": quoted(envelope.type_name)}
        if envelope.content_type != DEFAULT_CONTENT_TYPE:
            headers["Hw-Content"] = quoted(envelope.content_type)
    if envelope.number is not None:
        headers["Hw-Chunk"] = str(envelope.number)
    return headers, envelope.payload


def decode_reply(headers: Mapping[str, str] | None, payload: bytes) -> ReplyEnvelope:
    """Read a reply.

    Raises:
        EnvelopeError: A header is missing or malformed.
        UnsupportedFormatError: A newer version of Hivewire sent it.
    """
    if headers is None:
        raise EnvelopeError("a reply without headers: it was not sent by an agent runtime")
    type_name = headers.get("Hw-Type")
    if len(headers) == 1 and type_name is not None:
        return ReplyEnvelope(type_name=unquoted(type_name), payload=payload)
    check_format_header(headers.get("Hw-Format"), "a reply")
    status = headers.get("Hw-Status", "value")
    if status not in _REPLY_STATUSES:
        raise EnvelopeError(f"a reply of the unknown status {status!r}")
    chunk = headers.get("Hw-Chunk")
    if chunk is not None and not _is_count(chunk):
        raise EnvelopeError(f"the header Hw-Chunk of a reply is {chunk!r} and not a number")
    number = None if chunk is None else int(chunk)
    if status != "value":
        return ReplyEnvelope(status=cast(ReplyStatus, status), payload=payload, number=number)
    if type_name is None:
        raise EnvelopeError("a reply with neither the header Hw-Type nor Hw-Status")
    content_type = unquoted(headers.get("Hw-Content", DEFAULT_CONTENT_TYPE))
    return ReplyEnvelope(type_name=unquoted(type_name), content_type=content_type, payload=payload, number=number)


def is_sign_of_life(headers: Mapping[str, str] | None) -> bool:
    """Tell whether a message to a reply subject says that the call is still being worked on."""
    return headers is not None and headers.get("Hw-Status") == "alive"


def call_id_of(reply_subject: str) -> str:
    """Return the id of a call: the last token of the subject that its reply goes to."""
    return reply_subject.rpartition(".")[2]


_is_count = re.compile(r"[0-9]{1,15}").fullmatch
_is_content_type = re.compile(r"[!-~](?:[ -~]*[!-~])?").fullmatch
_DIRECT: Final = "rpc_request"
_CALL_OPERATIONS: Final = frozenset(get_args(CallOperation))
_REPLY_STATUSES: Final = frozenset(get_args(ReplyStatus))


def _optional(value: str | None) -> str | None:
    return None if value is None else unquoted(value)


def _sender_of(value: str | None) -> AgentId | None:
    if value is None:
        return None
    agent_type, slash, key = unquoted(value).partition("/")
    if not slash:
        raise EnvelopeError(f"the header Hw-Sender of a request is {value!r} and not type/key")
    return _agent_id(agent_type, key)


def _agent_id(agent_type: str, key: str) -> AgentId:
    try:
        return AgentId(agent_type, key)
    except ValueError as error:
        raise EnvelopeError(f"the sender of a message is not an agent id: {error}") from error
