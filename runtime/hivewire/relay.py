"""What a process needs that passes messages on between NATS and another protocol: they stay encoded."""

from hivewire.model.remote_errors import raised_by
from hivewire.model.serializer_registry import Encoded
from hivewire.model.type_messages import HandledMessage, MessageForm, TypeMessages
from hivewire.nats.broker import Stored, UnansweredError
from hivewire.nats.event_tap import EventTap, PassedEvent, StreamPlace
from hivewire.nats.readiness import Readiness
from hivewire.nats.relay import AgentTypeInfo, PreparedEvent, RelayRuntime
from hivewire.nats.topic_filters import TopicFilter

__all__ = [
    "AgentTypeInfo",
    "Encoded",
    "EventTap",
    "HandledMessage",
    "MessageForm",
    "PassedEvent",
    "PreparedEvent",
    "Readiness",
    "RelayRuntime",
    "Stored",
    "StreamPlace",
    "TopicFilter",
    "TypeMessages",
    "UnansweredError",
    "raised_by",
]
