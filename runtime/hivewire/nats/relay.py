"""A runtime that passes messages on without reading them.

A process between NATS and another protocol knows none of the users' classes. So messages stay what they are on the
wire: bytes, the name of their type, and their content type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from opentelemetry.trace import TracerProvider

from hivewire.exceptions import BrokerUnavailableError, UndeliverableException
from hivewire.model.readiness import Readiness
from hivewire.model.serializer_registry import Encoded, HandledTypes, SerializerRegistry
from hivewire.model.topics import TopicId
from hivewire.model.type_messages import TypeMessages
from hivewire.nats.broker import JetStreamError, Stored
from hivewire.nats.dead_letters import STORY_BYTES
from hivewire.nats.envelope import NONE_TYPE_NAME, EventEnvelope, encode_event
from hivewire.nats.event_stream import why_refused
from hivewire.nats.event_tap import EventTap, PassedEvent
from hivewire.nats.header_text import quoted
from hivewire.nats.message_records import MessageRecords
from hivewire.nats.registry import TypeKind
from hivewire.nats.runtime import NatsAgentRuntime
from hivewire.nats.topic_filters import TopicFilter
from hivewire.telemetry import MessageTracer, PassingTracer

__all__ = ["AgentTypeInfo", "FailedAnswer", "PreparedEvent", "RelayRuntime"]

_VIEW_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedEvent:
    """An event as it will be stored, of a size that the broker takes."""

    topic: TopicId
    subject: str
    headers: Mapping[str, str]
    payload: bytes
    trace: Mapping[str, str]
    message_id: str
    type_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTypeInfo:
    """An agent type as the registry has it. `messages` is None if its process did not say what it handles."""

    name: str
    kind: TypeKind
    shards: int
    subscriptions: tuple[TopicFilter, ...]
    messages: TypeMessages | None


@dataclass(frozen=True, slots=True)
class FailedAnswer:
    """An answer that could not be given, after the message was handled all the same."""

    error: BaseException


class RelayRuntime(NatsAgentRuntime):
    """Sends, publishes and returns `Encoded` messages. An answer of None is None.

    What it sends belongs to the trace of the current span; where nothing is recorded, to that of `passing_on`.
    """

    _tracing: ClassVar[type[MessageTracer]] = PassingTracer

    _component: ClassVar[str] = "gateway"

    def __init__(self, broker_url: str, **options: Any) -> None:
        super().__init__(broker_url, **options)
        self._serializers = _AsTheyAre()
        self._messages: MessageRecords

    async def connect(self) -> Self:
        """Connect, so that messages can be sent; see `NatsAgentRuntime`."""
        await super().connect()
        self._messages = MessageRecords(self._broker, self._subjects)
        self._tasks.start(self._messages.run(), name="hivewire: messages of types")
        try:
            async with asyncio.timeout(_VIEW_TIMEOUT_S):
                await self._messages.ready.wait()
        except TimeoutError:
            await self.stop()
            raise BrokerUnavailableError(f"The registry could not be read within {_VIEW_TIMEOUT_S:g} s") from None
        return self

    @property
    def registry_changes(self) -> int:
        """A number that is another one whenever `agent_types` returns something else."""
        return self._registry.changes + self._messages.changes

    def agent_types(self) -> list[AgentTypeInfo]:
        """Return the agent types that some process has registered, by their names.

        Raises:
            RuntimeStateError: not connected.
        """
        self._check_connected()
        return [
            AgentTypeInfo(
                name=record.name,
                kind=record.shape.kind,
                shards=record.shape.shards,
                subscriptions=record.subscriptions.filters,
                messages=self._messages.get(record.name),
            )
            for record in sorted(self._registry.types(), key=lambda record: record.name)
            if record.shape is not None
        ]

    def messages_of(self, agent_type: str) -> TypeMessages | None:
        """Return which messages a type handles, as the process told that registered it last; None: nobody has.

        Raises:
            RuntimeStateError: not connected.
        """
        self._check_connected()
        return self._messages.get(agent_type)

    @property
    def ready(self) -> Readiness:
        """Whether messages can be passed on now, and why not. May be read from any thread."""
        if self._state not in ("connected", "starting", "started"):
            return Readiness(False, f"the runtime is {self._state}")
        if not self._broker.connected.is_set():
            return Readiness(False, self._broker.trouble)
        return Readiness(True)

    @property
    def namespace(self) -> str:
        """The namespace that its messages stay in."""
        return self._options.namespace

    @property
    def tracer_provider(self) -> TracerProvider | None:
        """Where its spans go; None: to the global provider."""
        return self._options.tracer_provider

    @property
    def credentials(self) -> str | None:
        """The path of the credentials file that it connects with."""
        return self._options.credentials

    @property
    def provisions(self) -> bool:
        """Whether it makes what the namespace needs, which another process does otherwise."""
        return self._options.provision

    @property
    def max_payload(self) -> int:
        """How many bytes the broker takes at once, once it is connected."""
        return self._broker.max_payload

    async def store_event(
        self,
        message: Encoded,
        topic: TopicId,
        *,
        message_id: str,
        deduplication_id: str,
        attributes: Mapping[str, str] | None = None,
        trace: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Stored:
        """Store an event and return where: `prepare_event`, then `store_prepared`."""
        event = await self.prepare_event(
            message,
            topic,
            message_id=message_id,
            deduplication_id=deduplication_id,
            attributes=attributes,
            trace=trace,
        )
        return await self.store_prepared(event, timeout=timeout)

    async def prepare_event(
        self,
        message: Encoded,
        topic: TopicId,
        *,
        message_id: str,
        deduplication_id: str,
        attributes: Mapping[str, str] | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> PreparedEvent:
        """Return an event as it will be stored. The stream keeps one of several with the same `deduplication_id`.

        Args:
            attributes: Further attributes of the CloudEvent, by their names without prefix.
            trace: The W3C trace context that it belongs to, as plain header values, where that is not the current one.

        Raises:
            MessageTooLargeError: it exceeds the broker's limit.
            RuntimeStateError: not connected.
        """
        await self._ready()
        trace = trace or self._tracer.inject()
        headers, payload = encode_event(
            EventEnvelope(
                topic=topic,
                message_id=message_id,
                type_name=message.type_name,
                content_type=message.content_type,
                payload=message.payload,
                trace=trace,
            )
        )
        headers |= {f"ce-{name}": quoted(value) for name, value in (attributes or {}).items()}
        headers["Nats-Msg-Id"] = deduplication_id
        subject = self._subjects.event(topic.source, topic.type)
        self._broker.check_size(subject, payload, headers, reserve=STORY_BYTES)
        return PreparedEvent(
            topic=topic,
            subject=subject,
            headers=headers,
            payload=payload,
            trace=trace,
            message_id=message_id,
            type_name=message.type_name,
        )

    async def store_prepared(self, event: PreparedEvent, *, timeout: float | None = None) -> Stored:
        """Store an event and return where. It may be tried again: it is stored once all the same.

        Args:
            timeout: Seconds until it is given up. Default: the runtime's `publish_timeout`.

        Raises:
            UnansweredError: it was not acknowledged in time; whether it is stored is unknown.
            BrokerUnavailableError: it is not stored, as the broker could not be reached in time.
            UndeliverableException: it is not stored, for instance because the event stream is full.
            RuntimeStateError: not connected.
        """
        await self._ready()
        timeout = self._options.publish_timeout if timeout is None else timeout
        if not self._tracer.records:
            return await self._stored(event, event.headers, timeout)
        with self._tracer.creating(
            event.topic, type_name=event.type_name, message_id=event.message_id, parent=event.trace
        ):
            return await self._stored(event, {**event.headers, **self._tracer.inject()}, timeout)

    async def _stored(self, event: PreparedEvent, headers: Mapping[str, str], timeout: float) -> Stored:
        try:
            storing = self._broker.store(event.subject, event.payload, headers=dict(headers), timeout=timeout)
            return await self._metrics.publishing(storing, topic_type=event.topic.type, size_bytes=len(event.payload))
        except JetStreamError as error:
            why = why_refused(error, self._subjects.events_stream)
            raise UndeliverableException(f"A message to {event.topic} was not stored: {why}") from error

    def tap_events(
        self,
        *,
        on_event: Callable[[PassedEvent], None],
        on_other_stream: Callable[[str], None],
        room: Callable[[], int],
    ) -> EventTap:
        """Return a tap on the events of the namespace, whoever subscribes to them.

        Raises:
            RuntimeStateError: not connected.
        """
        self._check_connected()
        return EventTap(
            self._broker,
            self._subjects,
            self._event_stream,
            self._tasks,
            on_event=on_event,
            on_other_stream=on_other_stream,
            room=room,
        )


class _AsTheyAre(SerializerRegistry):
    passes_on: ClassVar[bool] = True

    def encode(self, message: Any) -> Encoded:
        if isinstance(message, FailedAnswer):
            raise message.error
        return message if isinstance(message, Encoded) else super().encode(message)

    def decode(
        self,
        payload: bytes,
        *,
        type_name: str,
        content_type: str,
        preferred: HandledTypes | None = None,
        strict: bool = False,
    ) -> Any:
        return None if type_name == NONE_TYPE_NAME else Encoded(type_name, content_type, payload)
