"""Messages on their way out of a runtime: intercepted, encoded, sent or stored."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from opentelemetry.trace import Span

from hivewire.exceptions import MessageDroppedException, MessageTooLargeError, UndeliverableException
from hivewire.logging import EVENT_LOGGER_NAME, DeliveryStage, MessageEvent, MessageKind
from hivewire.model.call_limit import CallLimit, limit_of
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import current_turn, outgoing_context
from hivewire.model.ids import AgentId
from hivewire.model.interventions import InterventionChain
from hivewire.model.remote_errors import decode_error
from hivewire.model.serializer_registry import Encoded, SerializerRegistry
from hivewire.model.topics import TopicId
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.chunk_inlet import ChunkInlet
from hivewire.nats.dead_letters import STORY_BYTES
from hivewire.nats.envelope import CallEnvelope, CallOperation, EventEnvelope, ReplyEnvelope, encode_event
from hivewire.nats.event_stream import why_refused
from hivewire.nats.kept_stream import KeptMessageStream
from hivewire.nats.kept_streams import Call, KeptStreams
from hivewire.nats.measured_calls import MeasuredCalls
from hivewire.nats.message_stream import NatsMessageStream
from hivewire.nats.options import RuntimeOptions
from hivewire.nats.outbox import Outbox
from hivewire.nats.registry import Registry
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.tokens import is_hashed, token
from hivewire.telemetry import MessageTracer, RuntimeMetrics, record_error

log = logging.getLogger("hivewire.outgoing")
_event_log = logging.getLogger(EVENT_LOGGER_NAME)

_NO_SPAN: AbstractContextManager[None] = nullcontext()
_STREAM_MESSAGE_TOO_LARGE = 10054
_STREAM_HEADERS_TOO_LARGE = 10097


class Outgoing:
    """Sends and publishes for one runtime.

    `publishing` counts the publishes that are not stored yet, `unrouted` those that nobody subscribed to.
    """

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        registry: Registry,
        calls: MeasuredCalls,
        outbox: Outbox,
        serializers: SerializerRegistry,
        interventions: InterventionChain,
        tracer: MessageTracer,
        metrics: RuntimeMetrics,
        options: RuntimeOptions,
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._registry = registry
        self._calls = calls
        self._outbox = outbox
        self._serializers = serializers
        self._interventions = interventions
        self._tracer = tracer
        self._metrics = metrics
        self._options = options
        self._id_prefix = secrets.token_hex(8)
        self._ids = iter(range(1, 1 << 62))
        self.publishing = 0
        self.unrouted = 0

    async def send(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None,
        cancellation_token: CancellationToken | None,
        message_id: str | None,
        timeout: float | None,
    ) -> Any:
        """Send a message to one agent and return its answer: a list, if it is a streamed one."""
        limit = self._limit(timeout, cancellation_token)
        envelope = await self._enveloped(message, recipient, sender, cancellation_token, message_id)
        return await self._outcome(recipient, envelope, limit)

    def stream(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None,
        cancellation_token: CancellationToken | None,
        message_id: str | None,
        timeout: float | None,
        tasks: TaskScope,
    ) -> NatsMessageStream:
        """Return the stream of what one agent's handler yields; the message is sent when it starts."""

        async def call(inlet: ChunkInlet) -> ReplyEnvelope:
            limit = self._limit(timeout, cancellation_token)
            with self._span_of(message, recipient) as span:
                envelope = await self._enveloped(message, recipient, sender, cancellation_token, message_id)
                call_id = self._named_call(envelope)
                reply, _ = await self._calls.call(recipient, envelope, limit=limit, inlet=inlet, call_id=call_id)
                _record_outcome(span, reply)
            return reply

        return NatsMessageStream(ChunkInlet(self._outbox), tasks, call, partial(self._answer, recipient, sender))

    def stream_kept(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None,
        cancellation_token: CancellationToken | None,
        message_id: str | None,
        timeout: float | None,
        streams: KeptStreams,
        stream_id: str | None = None,
    ) -> KeptMessageStream:
        """Do the same, and have the broker keep what the handler yields."""

        async def prepare(stream_id: str) -> Call:
            limit = self._limit(timeout, cancellation_token)
            envelope = await self._enveloped(message, recipient, sender, cancellation_token, message_id)
            envelope.kept = True

            async def call(on_start: Callable[[], object]) -> ReplyEnvelope:
                with self._span_of(message, recipient) as span:
                    envelope.trace = self._trace()
                    reply, _ = await self._calls.call(
                        recipient, envelope, limit=limit, call_id=stream_id, on_start=on_start
                    )
                    _record_outcome(span, reply)
                return reply

            return call

        return streams.open(prepare, partial(self._answer, recipient, sender), stream_id=stream_id)

    async def operate(self, operation: CallOperation, agent: AgentId, argument: Any = None) -> Any:
        """Ask an agent's process for something about the agent."""
        payload = self._serializers.encode(argument).payload
        envelope = CallEnvelope(operation=operation, payload=payload, left_ms=0, key=_named_key(agent.key))
        return await self._outcome(agent, envelope, self._limit(None, None))

    async def publish(
        self,
        message: Any,
        topic: TopicId,
        *,
        sender: AgentId | None,
        cancellation_token: CancellationToken | None,
        message_id: str | None,
    ) -> None:
        """Publish an event; returns when it is stored, or an intervention handler dropped it."""
        self.publishing += 1
        try:
            turn = current_turn()
            derived = None
            if turn is not None:
                # The same whenever the turn is run again, so that the broker stores it once.
                derived = turn.next_id()
            message_id = message_id or derived or self._new_id()
            if self._tracer.records:
                self._tracer.name_message(message_id)
            if self._interventions:
                context = outgoing_context(sender, topic, cancellation_token, message_id)
                try:
                    message = await self._interventions.on_publish(message, message_context=context)
                except MessageDroppedException:
                    return
                except Exception:
                    log.exception("an intervention handler failed on a publish to %s", topic)
                    return
            await self._store(message, topic, sender, message_id, derived)
        finally:
            self.publishing -= 1

    async def _store(
        self, message: Any, topic: TopicId, sender: AgentId | None, message_id: str, derived: str | None
    ) -> None:
        encoded = self._serializers.encode(message)
        if _event_log.isEnabledFor(logging.INFO):
            self._report(encoded, sender, topic, MessageKind.PUBLISH, DeliveryStage.SEND)
        headers, payload = encode_event(
            EventEnvelope(
                topic=topic,
                message_id=message_id,
                sender=sender,
                type_name=encoded.type_name,
                content_type=encoded.content_type,
                payload=encoded.payload,
                trace=self._trace(),
            )
        )
        if derived is not None:
            headers["Nats-Msg-Id"] = derived
        if not self._registry.anyone_subscribes(topic.type):
            self.unrouted += 1
            log.info("nobody subscribes to topic type %s; a message to it is unrouted", topic.type)
        subject = self._subjects.event(topic.source, topic.type)
        # If it has to be given up, the story of its failure goes with it.
        self._broker.check_size(subject, payload, headers, reserve=STORY_BYTES)
        try:
            storing = self._broker.store(subject, payload, headers=headers, timeout=self._options.publish_timeout)
            await self._metrics.publishing(storing, topic_type=topic.type, size_bytes=len(payload))
        except JetStreamError as error:
            if error.code in (_STREAM_MESSAGE_TOO_LARGE, _STREAM_HEADERS_TOO_LARGE):
                headers_bytes = sum(len(name) + len(value) + 4 for name, value in headers.items())
                raise MessageTooLargeError(
                    f"A message to topic type {topic.type} is larger than the event stream takes: {len(payload)} bytes"
                    f" of payload and {headers_bytes} bytes of headers, which hold the topic and the sender; {error}"
                ) from error
            why = why_refused(error, self._subjects.events_stream)
            raise UndeliverableException(f"A message to {topic} was not stored: {why}") from error

    async def _enveloped(
        self,
        message: Any,
        recipient: AgentId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str | None,
    ) -> CallEnvelope:
        if self._interventions:
            message_id = message_id or self._new_id()
            context = outgoing_context(sender, None, token, message_id)
            message = await self._interventions.on_send(message, message_context=context, recipient=recipient)
        encoded = self._serializers.encode(message)
        if _event_log.isEnabledFor(logging.INFO):
            self._report(encoded, sender, recipient, MessageKind.DIRECT, DeliveryStage.SEND)
        turn = current_turn()
        return CallEnvelope(
            type_name=encoded.type_name,
            payload=encoded.payload,
            left_ms=0,
            content_type=encoded.content_type,
            sender=sender,
            message_id=message_id,
            key=_named_key(recipient.key),
            chain=turn.chain if turn is not None else (),
            trace=self._trace(),
        )

    def _limit(self, timeout: float | None, token: CancellationToken | None) -> CallLimit:
        seconds = self._options.default_timeout if timeout is None else timeout
        return limit_of(seconds, token, current_turn(), time.monotonic())

    async def _outcome(self, recipient: AgentId, envelope: CallEnvelope, limit: CallLimit) -> Any:
        turn = current_turn()
        nested = turn.nested if turn is not None else None
        call_id = self._named_call(envelope)
        if nested is None:
            reply, inlet = await self._calls.call(recipient, envelope, limit=limit, call_id=call_id)
        else:
            # Others go on in this process meanwhile, those among them that the call waits for.
            nested.step_out()
            try:
                reply, inlet = await self._calls.call(recipient, envelope, limit=limit, call_id=call_id)
            finally:
                await nested.step_in()
        if reply.status == "error":
            raise decode_error(reply.payload)
        if envelope.operation != "message":
            return self.decoded(reply)
        if reply.status == "end":
            return [self._answer(recipient, envelope.sender, chunk) for chunk in (inlet.chunks if inlet else ())]
        return self._answer(recipient, envelope.sender, reply)

    def _answer(self, recipient: AgentId, sender: AgentId | None, reply: ReplyEnvelope) -> Any:
        if _event_log.isEnabledFor(logging.INFO):
            self._report(reply, recipient, sender, MessageKind.RESPOND, DeliveryStage.DELIVER)
        return self.decoded(reply)

    def decoded(self, reply: ReplyEnvelope) -> Any:
        """Return the value of a reply."""
        return self._serializers.decode(reply.payload, type_name=reply.type_name, content_type=reply.content_type)

    def _span_of(self, message: Any, recipient: AgentId) -> AbstractContextManager[Span | None]:
        if not self._tracer.records:
            return _NO_SPAN
        type_name = message.type_name if isinstance(message, Encoded) else type(message).__name__
        return self._tracer.creating(recipient, type_name=type_name)

    def _named_call(self, envelope: CallEnvelope) -> str | None:
        """Return the id for a call whose span is to tell the id of its message, which is that of the call if it has
        none of its own."""
        if not self._tracer.records or envelope.operation != "message":
            return None
        call_id = self._broker.new_token()
        self._tracer.name_message(envelope.message_id or call_id)
        return call_id

    def _trace(self) -> Mapping[str, str]:
        return self._tracer.inject() if self._tracer.enabled else {}

    def _report(
        self,
        message: Encoded | ReplyEnvelope,
        sender: AgentId | None,
        to: AgentId | TopicId | None,
        kind: MessageKind,
        stage: DeliveryStage,
    ) -> None:
        show = self._options.record_payloads
        _event_log.info(
            MessageEvent(
                payload=message.payload.decode(errors="replace") if show else message.type_name,
                sender=sender,
                receiver=to,
                kind=kind,
                delivery_stage=stage,
            )
        )

    def _new_id(self) -> str:
        return f"{self._id_prefix}-{next(self._ids):x}"


def _record_outcome(span: Span | None, reply: ReplyEnvelope) -> None:
    if span is not None and reply.status == "error":
        record_error(span, decode_error(reply.payload))


def _named_key(key: str) -> str | None:
    return key if is_hashed(token(key)) else None
