"""Events as their recipient's process sees them: whose they are, and running the turn.

A handler's error never reaches the publisher and never holds up another agent: it is logged, told to the event logger,
and the event counts as handled.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from hivewire.logging import EVENT_LOGGER_NAME, MessageHandlerExceptionEvent
from hivewire.model.ids import AgentId
from hivewire.nats.envelope import EnvelopeError, EventEnvelope, decode_event
from hivewire.nats.incoming import addressed_key
from hivewire.nats.positions import SubscriptionChange
from hivewire.nats.stream_reader import StreamMessage
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.tokens import token
from hivewire.nats.turns import Turn, Turns

log = logging.getLogger("hivewire.events")
_event_log = logging.getLogger(EVENT_LOGGER_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingEvent:
    """An event for one agent. `key` is the token of the agent's key."""

    agent: AgentId
    key: str
    envelope: EventEnvelope


class EventTurns:
    """Reads stored events and runs them on the agents of this process."""

    def __init__(self, subjects: Subjects, turns: Turns, *, deployment: str, record_payloads: bool) -> None:
        self._inbox_prefix = subjects.inboxes.removesuffix(">")
        self._marker_prefix = subjects.markers.removesuffix("*")
        self._last: tuple[StreamMessage, EventEnvelope | None] | None = None
        self._subjects = subjects
        self._turns = turns
        self._record_payloads = record_payloads
        self.deployment = deployment

    def recipient(
        self, message: StreamMessage, agent_type: str, subscriptions: SubscriptionChange
    ) -> IncomingEvent | None:
        """Return the event with its recipient, or None when no agent of the type has to handle it.

        That is so when the event is another type's, when the recipient published it itself, and for a message that is
        not an event, which is logged.
        """
        try:
            envelope = self._decoded(message)
            if envelope is None:
                return None
            if message.subject.startswith(self._inbox_prefix):
                address = self._subjects.parse_inbox(message.subject)
                if address.type_token != type_token(agent_type):
                    return None
                key = address.key_token
                agent = AgentId(agent_type, addressed_key(key, message.headers.get("Hw-Key")))
            else:
                if not any(each.matches(envelope.topic.type) for each in subscriptions.filters):
                    return None
                # The slot of the subject decides whose event it is; a header that says otherwise is not believed.
                if self._subjects.stored_event(envelope.topic.source, envelope.topic.type) != message.subject:
                    raise EnvelopeError(f"its headers name {envelope.topic}, its subject says otherwise")
                key = token(envelope.topic.source)
                agent = AgentId(agent_type, envelope.topic.source)
        except (EnvelopeError, ValueError) as error:
            log.error("message %d on %s is not an event: %s", message.sequence, message.subject, error)
            return None
        if envelope.sender == agent:
            return None
        return IncomingEvent(agent=agent, key=key, envelope=envelope)

    def _decoded(self, message: StreamMessage) -> EventEnvelope | None:
        """Decode a message, once for all the types that share its reader."""
        if self._last is None or self._last[0] is not message:
            self._last = message, None
            if not message.subject.startswith(self._marker_prefix):
                self._last = message, decode_event(message.headers, message.payload)
        return self._last[1]

    async def serve(self, event: IncomingEvent, sequence: int) -> None:
        """Run the event's turn. Returns when the event is done with, whatever the handler did."""
        envelope = event.envelope
        turn = Turn(
            id=f"{event.agent.type}-{event.key}-{sequence}",
            agent=event.agent,
            type_name=envelope.type_name,
            content_type=envelope.content_type,
            payload=envelope.payload,
            message_id=envelope.message_id,
            sender=envelope.sender,
            topic=envelope.topic,
            trace=envelope.trace,
        )
        try:
            await self._turns.run(turn)
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, (KeyboardInterrupt, SystemExit)) or (task is not None and task.cancelling()):
                raise
            self._report(event, error)

    def _report(self, event: IncomingEvent, error: BaseException) -> None:
        envelope = event.envelope
        log.error("%s failed on event %s of %s", event.agent, envelope.message_id, envelope.topic, exc_info=error)
        if _event_log.isEnabledFor(logging.INFO):
            payload = envelope.payload.decode(errors="replace") if self._record_payloads else envelope.type_name
            _event_log.info(MessageHandlerExceptionEvent(payload=payload, handling_agent=event.agent, exception=error))
