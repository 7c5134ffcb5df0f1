"""The runtime whose agents all live in one process and one event loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, TypeVar

from opentelemetry.trace import TracerProvider

from hivewire.agents.concurrency import Concurrency, checked_concurrency
from hivewire.agents.hosting import AgentHost
from hivewire.exceptions import ScheduleNotFoundError
from hivewire.local.clock import Clock, SystemClock
from hivewire.local.delivery import Delivery
from hivewire.local.dispatcher import State
from hivewire.local.event_log import EventLog
from hivewire.local.kept_streams import KeptChunks, KeptStreamCall, KeptStreams, LocalKeptStream
from hivewire.local.loopback import Loopback
from hivewire.local.schedules import LocalSchedules
from hivewire.local.streams import LocalStream, StreamCall
from hivewire.local.work import Call, Publication, Work
from hivewire.logging import DeliveryStage, MessageKind
from hivewire.model.call_limit import check_timeout
from hivewire.model.cancellation import CancellationToken
from hivewire.model.ids import AgentId, check_strict_agent_id
from hivewire.model.interventions import InterventionChain, InterventionHandler
from hivewire.model.schedule_rules import ScheduleRule
from hivewire.model.schedules import Schedule, ScheduleHandle, check_schedule
from hivewire.model.streams import MessageStream, check_position
from hivewire.model.topics import TopicId, check_strict_topic_id
from hivewire.telemetry.tracing import MessageTracer

__all__ = ["SingleThreadedAgentRuntime"]

_logger = logging.getLogger("hivewire.local")

CallT = TypeVar("CallT", bound=Call)
StreamCallT = TypeVar("StreamCallT", bound=StreamCall)

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
    - `clock` is what schedules go by; `hivewire.testing.FakeClock` is one that a test moves.
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
        clock: Clock | None = None,
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
        self._clock = SystemClock() if clock is None else clock
        self._schedules = LocalSchedules(self._clock, deliver=self._fire, settled=self._dispatcher.settle)
        self._kept_streams = KeptStreams()
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
        resumable: bool = False,
    ) -> MessageStream:
        """Send a message to one agent and iterate over what its handler yields; see `AgentRuntime`.

        The handler is at most 16 chunks ahead of its reader. A resumable stream is kept in memory for an hour after its
        end; of those that have ended, the last 1,000 are.
        """
        check_timeout(timeout)
        arguments = (message, recipient, sender, cancellation_token, message_id, timeout)
        if not resumable:
            return LocalStream(recipient, partial(self._open_stream, StreamCall, *arguments))
        stream_id = self._new_id()
        send = partial(self._open_stream, KeptStreamCall, *arguments)
        return self._kept_stream(stream_id, partial(self._kept_streams.open, stream_id, send))

    def resume_stream(self, stream_id: str, *, after: int = 0, timeout: float | None = None) -> MessageStream:
        """Read a resumable stream from the chunk that follows number `after`; see `AgentRuntime`.

        Raises:
            ValueError: `after` is negative.
        """
        check_position(after)
        check_timeout(timeout)
        find = partial(self._kept_streams.find, stream_id, after=after)
        return self._kept_stream(stream_id, find, after=after, timeout_s=timeout)

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

    async def schedule_message(
        self,
        message: Any,
        target: AgentId | TopicId,
        *,
        at: datetime | None = None,
        after: float | timedelta | None = None,
        every: float | timedelta | None = None,
        cron: str | None = None,
        time_zone: str | None = None,
        id: str | None = None,
        sender: AgentId | None = None,
    ) -> ScheduleHandle:
        """Send a message to one agent, or publish it to a topic, at a time or again and again; see `MessageScheduler`.

        What falls due while the runtime is not started waits in the queue, once for each schedule. Closing the runtime
        ends its schedules.

        Raises:
            ValueError: not exactly one rule, or one that can't be followed.
            SerializationError: messages are serialized, and this one cannot be.
        """
        rule = ScheduleRule.of(at=at, after=after, every=every, cron=cron, time_zone=time_zone)
        check_schedule(id, target)
        if self._strict_ids:
            check_strict_agent_id(target) if isinstance(target, AgentId) else check_strict_topic_id(target)
        schedule = Schedule(
            id=self._new_id() if id is None else id,
            target=target,
            message_type=type(message).__name__,
            rule=rule,
            next_at=rule.first(self._clock.now()),
            sender=sender,
        )
        kept = message if self._loopback is None else self._loopback.copy(message)
        return ScheduleHandle(self._schedules.add(schedule, kept), self._schedules.cancel)

    async def list_schedules(self) -> list[Schedule]:
        """Return the schedules that wait to fire, by their next time."""
        return self._schedules.all()

    async def get_schedule(self, id: str) -> ScheduleHandle:
        """Find a schedule.

        Raises:
            ScheduleNotFoundError: there is none of that id, or it has fired for the last time.
        """
        schedule = self._schedules.get(id)
        if schedule is None:
            raise ScheduleNotFoundError(f"There is no schedule {id!r}, or it has fired for the last time")
        return ScheduleHandle(schedule, self._schedules.cancel)

    def start(self) -> Awaitable[None]:
        """Start delivering messages, those that wait already first. May be awaited, and need not be.

        Raises:
            RuntimeStateError: it is started already.
        """
        self._tracer.refresh()
        self._dispatcher.start()
        self._schedules.resume()
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
        """Wait until no message waits and no handler runs, then stop. Schedules that are not due don't count.

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
        """Stop if started, refuse messages that wait, forget the schedules and the resumable streams, and close every
        agent in memory. May be called again.

        An agent that fails to close is logged, and the others are closed all the same.
        """
        self._schedules.close()
        try:
            if self._dispatcher.state is not State.STOPPED:
                await self._dispatcher.stop()
            else:
                self._dispatcher.drop_queued()
                self._dispatcher.raise_failure()
        finally:
            self._kept_streams.clear()
            for agent_id in self._catalog.live_ids():
                await self._catalog.passivate(agent_id)

    async def process_next(self) -> None:
        """Start exactly one queued message without `start`, waiting for one if there is none.

        Returns when its handler has run up to its first suspension.
        """
        await self._dispatcher.process_next()

    _process_next = process_next

    def _kept_stream(
        self, stream_id: str, start: Callable[[], KeptChunks], *, after: int = 0, timeout_s: float | None = None
    ) -> LocalKeptStream:
        copy = None if self._loopback is None else self._loopback.copy
        cancel = self._kept_streams.cancel
        return LocalKeptStream(stream_id, start, cancel, copy, after=after, timeout_s=timeout_s)

    def _open_stream(
        self,
        kind: type[StreamCallT],
        message: Any,
        recipient: AgentId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str | None,
        timeout: float | None,
    ) -> StreamCallT:
        if not self._tracer.enabled:
            return self._accept(kind, message, recipient, sender, token, message_id, timeout)
        with self._create_span(message, recipient):
            return self._accept(kind, message, recipient, sender, token, message_id, timeout)

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
        check_timeout(timeout)
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

    def _fire(self, schedule: Schedule, message: Any) -> Work | None:
        """Put the message of a schedule that is due into the queue."""
        target, message_id = schedule.target, schedule.firing_id
        if isinstance(target, TopicId):
            return self._publish(message, target, schedule.sender, None, message_id, traced=False)
        call = self._accept(Call, message, target, schedule.sender, None, message_id, None)
        call.future.add_done_callback(partial(_log_outcome, schedule))
        return call

    def _publish(
        self,
        message: Any,
        topic_id: TopicId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str | None,
        *,
        traced: bool,
    ) -> Publication | None:
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
            return None
        self._dispatcher.put(publication)
        return publication

    def _taken(self, message: Any) -> tuple[Any, Any]:
        """Take a message over from its sender, who may change it afterwards: return a message and its encoding."""
        assert self._loopback is not None
        encoded = self._loopback.encode(message)
        # Intervention handlers see a message, not bytes; what they return is encoded then.
        return (self._loopback.copy(message) if self._interventions else message), encoded

    def _new_id(self) -> str:
        return f"{self._id_prefix}-{next(self._ids):x}"


def _log_outcome(schedule: Schedule, future: asyncio.Future[Any]) -> None:
    # Nobody waits for it, so the log is the only place where its end can show.
    if not future.cancelled() and (error := future.exception()) is not None:
        _logger.error("%s failed on schedule %s", schedule.target, schedule.id, exc_info=error)


class _Done:
    """An awaitable that has finished. It may be awaited any number of times, and unlike a coroutine also not at all."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_DONE = _Done()
