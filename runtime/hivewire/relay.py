"""What a process needs that passes messages on between NATS and another protocol: they stay encoded."""

from hivewire.http import wire
from hivewire.http.channel import (
    ITEM_WINDOW,
    Answer,
    Channel,
    ChannelClosedError,
    IncomingRequest,
    OutgoingRequest,
    Transport,
)
from hivewire.http.frames import HEADER_BYTES, PING_INTERVAL_S, PING_TIMEOUT_S, SUBPROTOCOL
from hivewire.model.readiness import Readiness
from hivewire.model.relaying import is_relaying
from hivewire.model.remote_errors import decode_error, encode_error, raised_by
from hivewire.model.serializer_registry import Encoded
from hivewire.model.state_values import StateText
from hivewire.model.type_messages import HandledMessage, MessageForm, TypeMessages
from hivewire.nats.broker import Stored, UnansweredError
from hivewire.nats.event_tap import EventTap, PassedEvent, StreamPlace
from hivewire.nats.relay import AgentTypeInfo, FailedAnswer, PreparedEvent, RelayRuntime
from hivewire.nats.stand_in import AgentTraits, RemoteRetries, StandInRuntime, mark_final
from hivewire.nats.topic_filters import TopicFilter
from hivewire.nats.turn import SessionLapsedError, Turn
from hivewire.telemetry import passed_on_trace, passing_on

__all__ = [
    "HEADER_BYTES",
    "ITEM_WINDOW",
    "PING_INTERVAL_S",
    "PING_TIMEOUT_S",
    "SUBPROTOCOL",
    "AgentTraits",
    "AgentTypeInfo",
    "Answer",
    "Channel",
    "ChannelClosedError",
    "Encoded",
    "EventTap",
    "FailedAnswer",
    "HandledMessage",
    "IncomingRequest",
    "MessageForm",
    "OutgoingRequest",
    "PassedEvent",
    "PreparedEvent",
    "Readiness",
    "RelayRuntime",
    "RemoteRetries",
    "SessionLapsedError",
    "StandInRuntime",
    "StateText",
    "Stored",
    "StreamPlace",
    "TopicFilter",
    "Transport",
    "Turn",
    "TypeMessages",
    "UnansweredError",
    "decode_error",
    "encode_error",
    "is_relaying",
    "mark_final",
    "passed_on_trace",
    "passing_on",
    "raised_by",
    "wire",
]
