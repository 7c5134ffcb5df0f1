"""The runtime whose agents all live in one process and one event loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import count
from typing import Any, TypeVar

from opentelemetry.trace import TracerProvider

from hivewire.agents.concurrency import Concurrency, checked_concurrency
from hivewire.agents.hosting import AgentHost
from hivewire.local.delivery import Delivery
from hivewire.local.dispatcher import State
from hivewire.local.event_log import EventLog
from hivewire.local.loopback import Loopback
from hivewire.local.streams import LocalStream, StreamCall
from hivewire.local.work import Call, Publication
from hivewire.logging import DeliveryStage, MessageKind
from hivewire.model.cancellation import CancellationToken
from hivewire.model.ids import AgentId, check_strict_agent_id
from hivewire.model.interventions import InterventionChain, InterventionHandler
from hivewire.model.streams import MessageStream
from hivewire.model.topics import TopicId, check_strict_topic_id
from hivewire.telemetry.tracing import MessageTracer

__all__ = ["SingleThreadedAgentRuntime"]

_logger = logging.getLogger("hivewire.local")

CallT = TypeVar("CallT", bound=Call)

_POLL_PERIOD_S = 0.05
_NO_SPAN: AbstractContextManager[None] = nullcontext()


class SingleThreadedAgentRuntime(AgentHost):
    """Runs agents in this process and delivers their messages in memory.

    Messages start in the order in which they were sent, each handler in a task of its own, so handlers overlap where
    they await. Messages and answers are passed by reference. Guaranteed: every call ends with an answer or an exception
    unless its handler never ends; no error in a handler, an intervention handler or a token stops the others. Not
    guaranteed: anything once the process has ended.

    - `intervention_handlers` see every message before it is delivered and every answer before it is returned, one
      after the other, each the result of the one before.
    - `tracer_provider` gets the spans; without one they go to the global provider.
    - `ignore_unhandled_exceptions=False` lets an error in an event handler fail the runtime: the next `process_next`,
      `stop`, `stop_when_idle`, `stop_when` or `close` raises it, and until then messages are refused.
    - `concurrency="serial"` lets each agent handle one message at a time, calls from within its own call chain
      excepted; None does so for agents that keep state. A class attribute `concurrency` comes first.
    - `strict_ids` narrows agent types to letters, digits and `_`, keys and topic sources to printable ASCII.
    - `strict_unhandled` makes messages that no handler takes an error.
    - `default_timeout` in seconds limits calls that name no timeout.
    - `serialize_messages` sends every message and answer through its serializer, as between processes;
      `strict_payloads` then makes a message of unknown type an error.
    - `record_payloads` shows messages in events and spans, which otherwise name their types only.
    """

    def __init__(
        self,
        *,
        intervention_handlers: Sequence[InterventionHandler] | None = None,
        tracer_provider: TracerProvider | None = None,
        ignore_unhandled_exceptions: bool = True,
        concurrency: Concurrency | None = "interleaved",
        strict_ids: bool = False,
        strict_payloads: bool = False,
        strict_unhandled: bool = False,
        default_timeout: float | None = None,
        serialize_messages: bool = False,
        record_payloads: bool = False,
    ) -> None:
        super().__init__(strict_ids=strict_ids, strict_payloads=strict_payloads, strict_unhandled=strict_unhandled)
        self._default_timeout = default_timeout
        self._tracer = MessageTracer(tracer_provider, instance=type(self).__name__)
        self._events = EventLog(self._serializers, record_payloads=record_payloads)
        self._loopback = Loopback(self._serializers) if serialize_messages else None
        self._interventions = InterventionChain(intervention_handlers, payload_text=self._events.payload)
        self._delivery = Delivery(
            catalog=self._catalog,
            subscriptions=self._subscriptions,
            interventions=self._interventions,
            tracer=self._tracer,
            events=self._events,
            concurrency=checked_concurrency(concurrency, "runtime option `concurrency`"),
            loopback=self._loopback,
            ignore_event_errors=ignore_unhandled_exceptions,
        )
        self._dispatcher = self._delivery.dispatcher
        self._id_prefix = secrets.token_hex(8)
        self._ids = count(1)

    def __repr__(self) -> str:
        return (
            f"<SingleThreadedAgentRuntime {self._dispatcher.state.value}, {len(self._catalog.types())} types,"
            f" {len(self._catalog.live_ids())} agents, {self.unprocessed_messages_count} messages waiting>"
        )

    @property
    def unprocessed_messages_count(self) -> int:
        """How many messages wait to be started."""
        return self._dispatcher.queued

    @property
    def unrouted_messages_count(self) -> int:
        """How many published messages nobody subscribed to."""
        return self._delivery.unrouted_count

    async def send_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send a message to one agent and return its answer; see `AgentRuntime`.

        Before `start` messages wait in the queue.

        Raises:
            AgentNotFoundError: the recipient's type is unknown.
            DeadlineExceededError: the timeout passed first.
            RuntimeStateError: the runtime stopped before the message was handled.
        """
        with self._create_span(message, recipient) if self._tracer.enabled else _NO_SPAN:
            call = self._accept(Call, message, recipient, sender, cancellation_token, message_id, timeout)
            try:
                return await call.future
            except asyncio.CancelledError:
                call.abandon()
                raise
            finally:
                if call.caused_by is not None:
                    call.unlink()

    def stream_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> MessageStream:
        """Send a message to one agent and iterate over what its handler yields; see `AgentRuntime`.

        The handler is at most 16 chunks ahead of its reader.
        """
        return LocalStream(
            recipient,
            partial(self._open_stream, message, recipient, sender, cancellation_token, message_id, timeout),
        )

    async def publish_message(
        self,
        message: Any,
        topic_id: TopicId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
    ) -> None:
        """Queue a message for all agents that subscribe to the topic; see `AgentRuntime`.

        A message that nobody subscribes to counts as unrouted and is logged.

        Raises:
            SerializationError: messages are serialized, and this one cannot be.
            RuntimeStateError: an event handler failed, and that is not ignored.
        """
        if not self._tracer.enabled:
            self._publish(message, topic_id, sender, cancellation_token, message_id, traced=False)
            return
        with self._create_span(message, topic_id):
            self._publish(message, topic_id, sender, cancellation_token, message_id, traced=True)

    def start(self) -> Awaitable[None]:
        """Start delivering messages, those that wait already first. May be awaited, and need not be.

        Raises:
            RuntimeStateError: it is started already.
        """
        self._tracer.refresh()
        self._dispatcher.start()
        return _DONE

    async def stop(self) -> None:
        """Stop: running handlers finish and answer, callers of waiting messages get `RuntimeStateError`.

        A stream whose reader stays away for 5 seconds, while the handler waits for it, ends in the same error. The
        runtime may be started again.

        Raises:
            RuntimeStateError: it is not started.
        """
        await self._dispatcher.stop()

    async def stop_when_idle(self) -> None:
        """Wait until no message waits and no handler runs, then stop.

        Raises:
            RuntimeStateError: it is not started.
        """
        await self._dispatcher.stop_when_idle()

    async def stop_when(self, condition: Callable[[], bool]) -> None:
        """Stop once a condition holds, which is polled. `stop_when_idle` or `stop` is the better choice mostly.

        Raises:
            RuntimeStateError: it is not started.
        """
        await self._dispatcher.stop_when(condition, _POLL_PERIOD_S)

    async def close(self) -> None:
        """Stop if started, refuse messages that wait, and close every agent in memory. May be called again.

        An agent that fails to close is logged, and the others are closed all the same.
        """
        try:
            if self._dispatcher.state is not State.STOPPED:
                await self._dispatcher.stop()
            else:
                self._dispatcher.drop_queued()
                self._dispatcher.raise_failure()
        finally:
            for agent_id in self._catalog.live_ids():
                await self._catalog.passivate(agent_id)

    async def process_next(self) -> None:
        """Start exactly one queued message without `start`, waiting for one if there is none.

        Returns when its handler has run up to its first suspension.
        """
        await self._dispatcher.process_next()

    _process_next = process_next

    def _open_stream(
        self,
        message: Any,
        recipient: AgentId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str | None,
        timeout: float | None,
    ) -> StreamCall:
        if not self._tracer.enabled:
            return self._accept(StreamCall, message, recipient, sender, token, message_id, timeout)
        with self._create_span(message, recipient):
            return self._accept(StreamCall, message, recipient, sender, token, message_id, timeout)

    def _accept(
        self,
        kind: type[CallT],
        message: Any,
        recipient: AgentId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str | None,
        timeout: float | None,
    ) -> CallT:
        self._check_known(recipient)
        if self._strict_ids:
            check_strict_agent_id(recipient)
        future = asyncio.get_running_loop().create_future()
        call = kind(message, recipient, sender, token, message_id or self._new_id(), self._dispatcher, future)
        if self._loopback is not None:
            call.message, call.encoded = self._taken(message)
        if self._tracer.enabled:
            call.headers = self._tracer.inject()
        if self._events.enabled:
            self._events.message(MessageKind.DIRECT, DeliveryStage.SEND, message, sender=sender, receiver=recipient)
        self._dispatcher.put(call)
        if token is not None:
            token.link_future(future)
        limit = self._default_timeout if timeout is None else timeout
        if limit is not None or call.caused_by is not None:
            call.limit(limit)
        return call

    def _create_span(self, message: Any, destination: AgentId | TopicId) -> AbstractContextManager[Any]:
        attributes = {"messaging.message.type": type(message).__name__}
        return self._tracer.span("create", self._tracer.destination_of(destination), attributes=attributes)

    def _publish(
        self,
        message: Any,
        topic_id: TopicId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str | None,
        *,
        traced: bool,
    ) -> None:
        if self._strict_ids:
            check_strict_topic_id(topic_id)
        if token is not None and token.is_cancelled:
            raise asyncio.CancelledError("The token was cancelled before the message was published")
        publication = Publication(message, topic_id, sender, token, message_id or self._new_id(), self._dispatcher)
        if self._loopback is not None:
            publication.message, publication.encoded = self._taken(message)
        if traced:
            publication.headers = self._tracer.inject()
        if self._events.enabled:
            self._events.message(MessageKind.PUBLISH, DeliveryStage.SEND, message, sender=sender, receiver=topic_id)
        if self._dispatcher.state is State.STOPPING:
            # As for a message published a moment earlier: a handler that finishes must not fail because of it.
            _logger.warning("Dropped %s: the runtime is stopping", publication)
            return
        self._dispatcher.put(publication)

    def _taken(self, message: Any) -> tuple[Any, Any]:
        """Take a message over from its sender, who may change it afterwards: return a message and its encoding."""
        assert self._loopback is not None
        encoded = self._loopback.encode(message)
        # Intervention handlers see a message, not bytes; what they return is encoded then.
        return (self._loopback.copy(message) if self._interventions else message), encoded

    def _new_id(self) -> str:
        return f"{self._id_prefix}-{next(self._ids):x}"


class _Done:
    """An awaitable that has finished. It may be awaited any number of times, and unlike a coroutine also not at all."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_DONE = _Done()
