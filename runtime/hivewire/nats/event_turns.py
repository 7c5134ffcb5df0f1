"""Events as their recipient's process sees them: whose they are, their turns, and what becomes of those that fail.

A handler's error never reaches the publisher and never holds up another agent. The turn is run again, as the retry
policy of the agent's class says, and in the end the event goes to the dead letters.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from hivewire.agents.catalog import AgentCatalog
from hivewire.agents.retries import RetryPolicy, retry_policy_of
from hivewire.exceptions import (
    BrokerUnavailableError,
    MessageTooLargeError,
    UnsupportedFormatError,
    WorkerLostError,
)
from hivewire.logging import EVENT_LOGGER_NAME, MessageHandlerExceptionEvent, current_message
from hivewire.model.ids import AgentId
from hivewire.model.remote_errors import is_passed_on
from hivewire.nats.activations import (
    StateFormatError,
    StateRefusedError,
    StateUnreadableError,
    SupersededError,
    WriteUnknownError,
)
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.dead_letters import DeadLetter, describe, store_dead_letter
from hivewire.nats.delivery import DeliveryPolicy, delivery_of
from hivewire.nats.envelope import EnvelopeError, EventEnvelope, decode_event
from hivewire.nats.formats import FORMAT_HEADER
from hivewire.nats.header_text import unquoted
from hivewire.nats.incoming import addressed_key
from hivewire.nats.positions import SubscriptionChange
from hivewire.nats.registry import Registry
from hivewire.nats.session import SessionKeeper
from hivewire.nats.stream_reader import StreamMessage
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.tokens import token
from hivewire.nats.turn import GivenUpError, SessionLapsedError, Turn, TurnWithdrawnError
from hivewire.nats.turns import Turns
from hivewire.telemetry import RuntimeMetrics, end_span
from hivewire.telemetry import span_names as names
from hivewire.telemetry.measuring import MessageMeter

log = logging.getLogger("hivewire.events")
_event_log = logging.getLogger(EVENT_LOGGER_NAME)

EVENT_TIMEOUT_S: Final = 900.0
"""How long the turn of an event may take, unless the class attribute `event_timeout`, in seconds, says otherwise."""

_CONFLICT_PAUSE_S = 0.02
_NO_BROKER_PAUSE_S = 1.0
_FIRST_PAUSE_S = 0.25
_LAST_PAUSE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingEvent:
    """An event for one agent. `key` is the token of the agent's key. `direct`: the agent sees no topic. `refused` tells
    why it can't be handled by this version of Hivewire."""

    agent: AgentId
    key: str
    envelope: EventEnvelope
    message: StreamMessage
    direct: bool = False
    refused: UnsupportedFormatError | None = None


class EventTurns:
    """Reads stored events and runs them on the agents of this process."""

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        turns: Turns,
        catalog: AgentCatalog,
        keeper: SessionKeeper,
        registry: Registry,
        metrics: RuntimeMetrics,
        tasks: TaskScope,
        *,
        deployment: str,
        instance: str,
        record_payloads: bool,
    ) -> None:
        self._broker = broker
        self._inbox_prefix = subjects.inboxes.removesuffix(">")
        self._marker_prefix = subjects.markers.removesuffix("*")
        self._last: tuple[StreamMessage, EventEnvelope | None, UnsupportedFormatError | None] | None = None
        self._subjects = subjects
        self._turns = turns
        self._catalog = catalog
        self._keeper = keeper
        self._registry = registry
        self._metrics = metrics
        self._tasks = tasks
        self._instance = instance
        self._record_payloads = record_payloads
        self.deployment = deployment

    def recipient(
        self, message: StreamMessage, agent_type: str, subscriptions: SubscriptionChange | None
    ) -> IncomingEvent | None:
        """Return the event with its recipient, or None when no agent of the type has to handle it.

        That is so when the event is another type's, when the recipient published it itself, and for a message that is
        not an event, which is logged. Without subscriptions the event is one of the type's.
        """
        try:
            envelope, refused = self._decoded(message)
            if envelope is None:
                return None
            direct = False
            if message.subject.startswith(self._inbox_prefix):
                direct = envelope.direct
                address = self._subjects.parse_inbox(message.subject)
                if address.type_token != type_token(agent_type):
                    return None
                key = address.key_token
                named = message.headers.get("Hw-Key")
                agent = AgentId(agent_type, addressed_key(key, None if named is None else unquoted(named)))
            else:
                if subscriptions is not None and not any(
                    each.matches(envelope.topic.type) for each in subscriptions.filters
                ):
                    return None
                # The slot of the subject decides whose event it is; a header that says otherwise is not believed.
                if self._subjects.stored_event(envelope.topic.source, envelope.topic.type) != message.subject:
                    raise EnvelopeError(f"its headers name {envelope.topic}, its subject says otherwise")
                key = token(envelope.topic.source)
                agent = AgentId(agent_type, envelope.topic.source)
        except (EnvelopeError, ValueError) as error:
            log.error("message %d on %s is not an event: %s", message.sequence, message.subject, error)
            return None
        if envelope.sender == agent and not direct:
            return None
        return IncomingEvent(agent=agent, key=key, envelope=envelope, message=message, direct=direct, refused=refused)

    def _decoded(self, message: StreamMessage) -> tuple[EventEnvelope | None, UnsupportedFormatError | None]:
        """Decode a message, once for all the types that share its reader."""
        if self._last is None or self._last[0] is not message:
            self._last = message, None, None
            if not message.subject.startswith(self._marker_prefix):
                self._last = message, *_decoded(message)
        return self._last[1:]

    def turn_of(self, event: IncomingEvent, *, stream: str, epoch: int = 0, owner: object = None) -> Turn:
        """Return the turn of an event: `stream` is what its sequence belongs to, `epoch` that of its owner."""
        envelope, sequence = event.envelope, event.message.sequence
        return Turn(
            id=f"{event.agent.type}-{event.key}-{sequence}-{epoch}",
            agent=event.agent,
            type_name=envelope.type_name,
            content_type=envelope.content_type,
            payload=envelope.payload,
            message_id=envelope.message_id,
            sender=envelope.sender,
            topic=None if event.direct else envelope.topic,
            trace=envelope.trace,
            time_limit_s=self._time_limit_s(event, self._delivery(event)),
            sequence=sequence,
            stream=stream,
            origin=f"{event.agent.type}/{event.key}/{stream}/{sequence}",
            owner=owner,
            meter=self._metrics.message(
                event.agent.type,
                "event",
                message_type=envelope.type_name,
                size_bytes=len(envelope.payload),
                # Before another process had it, it waited for that one.
                stored_at_ns=event.message.stored_at_ns if event.message.delivery == 1 else 0,
            ),
        )

    async def serve(
        self, event: IncomingEvent, turn: Turn, *, stream: str, on_failure: Callable[[], object] = lambda: None
    ) -> bool:
        """Run the event's turn until it is done with: handled, among the dead letters, or dropped.

        Returns False when it is not, and will be handled by whoever owns the shard next. `on_failure` is called each
        time that it is to be tried again.
        """
        attempts = 0
        named = current_message.set(turn)
        meter = self._meter(turn)
        meter.comes()
        try:
            if event.refused is not None:
                self._report(event, event.refused, 0, None)
                return await self._give_up(event, turn, event.refused, attempts=0, stream=stream)
            while True:
                turn.attempt = attempts + 1
                try:
                    await self._turns.run(turn)
                    meter.finished("duplicate" if turn.handled_before else "ok")
                    return True
                except TurnWithdrawnError:
                    return False
                except SessionLapsedError:
                    # A renewal that is under way may save the session; if not, the turn is withdrawn with its shard.
                    on_failure()
                    await self._turns.rest(turn, _FIRST_PAUSE_S)
                    continue
                except GivenUpError:
                    return await self._give_up(event, turn, _unknown_cause(event), attempts=0, stream=stream)
                except (SupersededError, WriteUnknownError, StateUnreadableError) as error:
                    log.warning("%s: event %d is handled again: %s", event.agent, event.message.sequence, error)
                    delay = _CONFLICT_PAUSE_S
                except StateFormatError as error:
                    log.error("%s: event %d waits: %s", event.agent, event.message.sequence, error)
                    delay = _LAST_PAUSE_S
                except (BrokerUnavailableError, StateRefusedError) as error:
                    # Not the handler's fault, so it does not count; and without a broker nothing can be given up.
                    delay = _NO_BROKER_PAUSE_S
                    self._report(event, error, attempts + 1, delay)
                except BaseException as error:
                    if _is_ending(error):
                        raise
                    if self._tasks.closing:
                        # It may have failed as the call was broken off that its handler waited for.
                        return False
                    attempts += 1
                    delivery = self._delivery(event)
                    turn.time_limit_s = self._time_limit_s(event, delivery)
                    again_after = self._policy(event.agent, delivery).delay_after(attempts, error)
                    self._report(event, error, attempts, again_after)
                    if again_after is None:
                        return await self._give_up(event, turn, error, attempts=attempts, stream=stream)
                    delay = again_after
                meter.retries()
                end_span(turn.span, event=names.RETRY, attributes=_retry_of(turn, delay))
                on_failure()
                await self._turns.rest(turn, delay)
        except TurnWithdrawnError:
            return False
        finally:
            current_message.reset(named)
            end_span(turn.span)
            self._turns.abandon(turn)
            meter.goes()

    async def give_up(self, event: IncomingEvent, turn: Turn, error: Exception, *, attempts: int, stream: str) -> bool:
        """Send an event to the dead letters without running it. Returns as `serve`."""
        named = current_message.set(turn)
        meter = self._meter(turn)
        meter.comes()
        try:
            self._report(event, error, attempts, None)
            return await self._give_up(event, turn, error, attempts=attempts, stream=stream)
        except TurnWithdrawnError:
            return False
        finally:
            current_message.reset(named)
            self._turns.abandon(turn)
            meter.goes()

    async def _give_up(
        self, event: IncomingEvent, turn: Turn, error: BaseException, *, attempts: int, stream: str
    ) -> bool:
        keeps = self._keeps(event)
        end_span(turn.span, event=names.DEAD_LETTER if keeps else names.DROPPED, attributes={names.ATTEMPT: attempts})
        name, text, trace = describe(error)
        message = event.message
        letter = DeadLetter(
            agent=event.agent,
            sequence=message.sequence,
            stream=stream,
            subject=message.subject,
            error=name,
            message=text,
            traceback=trace,
            attempts=attempts,
            instance=self._instance,
            session=self._keeper.id,
            time=time.time(),
            headers=message.headers,
            payload=message.payload,
        )
        pause = _FIRST_PAUSE_S
        while True:
            try:
                if self._turns.persists(event.agent):
                    # First where it is decided: from here on nobody can commit it any more.
                    turn.operation = "bury"
                    if not await self._turns.run(turn):
                        log.info("event %d of %s is handled after all", message.sequence, event.agent)
                        self._meter(turn).finished("duplicate")
                        return True
                # The next owner of the shard, if it is given up now, waits for what comes of this.
                turn.started = True
                if keeps:
                    await store_dead_letter(self._broker, self._subjects, letter)
                self._meter(turn).finished("dead_letter" if keeps else "dropped")
                return True
            except SessionLapsedError:
                log.warning(
                    "event %d of %s can't be given up while the session is in doubt", message.sequence, event.agent
                )
            except MessageTooLargeError:
                log.exception("event %d of %s leaves its payload out of its dead letter", message.sequence, event.agent)
                letter = replace(letter, payload=b"")
            except (
                SupersededError,
                WriteUnknownError,
                BrokerUnavailableError,
                JetStreamError,
                StateFormatError,
                StateRefusedError,
            ) as problem:
                log.error("event %d of %s can't be given up yet: %s", message.sequence, event.agent, problem)
            turn.started = False
            await self._turns.rest(turn, pause)
            pause = min(pause * 2, _LAST_PAUSE_S)

    def _meter(self, turn: Turn) -> MessageMeter:
        assert turn.meter is not None
        return turn.meter

    def _delivery(self, event: IncomingEvent) -> DeliveryPolicy | None:
        """Return what a subscription says of the event, as of now; None: all is as the class says."""
        record = self._registry.get(event.agent.type)
        if record is None or not record.deliveries or event.direct:
            return None
        return delivery_of(record.deliveries, event.envelope.topic.type)

    def _time_limit_s(self, event: IncomingEvent, delivery: DeliveryPolicy | None) -> float:
        if delivery is not None and delivery.timeout_s is not None:
            return delivery.timeout_s
        limit: float = getattr(self._catalog.agent_class(event.agent.type), "event_timeout", EVENT_TIMEOUT_S)
        return limit

    def _keeps(self, event: IncomingEvent) -> bool:
        """Tell whether the event goes to the dead letters when it is given up: one that was never tried always does."""
        delivery = self._delivery(event)
        return event.refused is not None or delivery is None or delivery.dead_letters

    def _policy(self, agent_id: AgentId, delivery: DeliveryPolicy | None) -> RetryPolicy:
        try:
            policy = retry_policy_of(self._catalog.agent_class(agent_id.type))
        except TypeError as error:
            log.error("%s: %s; the default holds", agent_id, error)
            policy = RetryPolicy()
        return policy if delivery is None else delivery.retries(policy)

    def _report(self, event: IncomingEvent, error: BaseException, attempts: int, delay: float | None) -> None:
        envelope = event.envelope
        what = f"again in {delay:.2f} s" if delay is not None else "it is dropped"
        if delay is None and self._keeps(event):
            what = "it goes to the dead letters"
        log.error(
            "%s failed on event %s of %s (attempt %d, %s)",
            event.agent,
            envelope.message_id,
            envelope.topic,
            attempts,
            what,
            # What came from elsewhere is logged there, with what its text may tell.
            exc_info=None if is_passed_on(error) else error,
        )
        if _event_log.isEnabledFor(logging.INFO):
            payload = envelope.payload.decode(errors="replace") if self._record_payloads else envelope.type_name
            _event_log.info(MessageHandlerExceptionEvent(payload=payload, handling_agent=event.agent, exception=error))


def _decoded(message: StreamMessage) -> tuple[EventEnvelope, UnsupportedFormatError | None]:
    try:
        return decode_event(message.headers, message.payload), None
    except UnsupportedFormatError as error:
        # Whose it is can still be read, so that it is kept for a process that understands it.
        headers = {name: value for name, value in message.headers.items() if name.lower() != FORMAT_HEADER}
        return decode_event(headers, message.payload), error


def _retry_of(turn: Turn, delay_s: float) -> dict[str, int | float]:
    return {names.ATTEMPT: turn.attempt, names.RETRY_DELAY_S: delay_s}


def _unknown_cause(event: IncomingEvent) -> Exception:
    return WorkerLostError(
        f"Event {event.message.sequence} was given up by a process that ended before it had stored the cause"
    )


def _is_ending(error: BaseException) -> bool:
    task = asyncio.current_task()
    return isinstance(error, KeyboardInterrupt | SystemExit) or (task is not None and bool(task.cancelling()))
