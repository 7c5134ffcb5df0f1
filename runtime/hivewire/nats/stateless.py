"""A type whose messages any process may handle: one queue group for direct messages, one shared consumer for events.

The broker hands each event to one of the processes that pull, and gives it to another one when it is not acknowledged.
So nothing is owned, and nothing keeps a key in one place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nats.aio.msg import Msg

from hivewire.exceptions import BrokerUnavailableError, WorkerLostError
from hivewire.nats.broker import Broker
from hivewire.nats.event_turns import EventTurns, IncomingEvent
from hivewire.nats.incoming import IncomingCalls
from hivewire.nats.registry import Registry
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.subscription import BrokerSubscription
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.turns import Turns

log = logging.getLogger("hivewire.stateless")

WINDOW = 100
"""Events that this process has taken and not finished, at the most."""

LEAVE_S = 0.3
"""How long a process that leaves takes the events that it had asked for."""

MAX_DELIVERIES = 6
"""How many processes may take an event and not finish it, as they die or leave, before it is given up."""

PROGRESS_EVERY_S = 10.0
"""A third of the consumer's acknowledgement wait: a long turn is not given to somebody else."""


class StatelessType:
    """This process's part in a stateless type, from `start` until `stop`."""

    def __init__(
        self,
        agent_type: str,
        broker: Broker,
        subjects: Subjects,
        registry: Registry,
        calls: IncomingCalls,
        events: EventTurns,
        turns: Turns,
        tasks: TaskScope,
        *,
        stream: Callable[[], str],
    ) -> None:
        self.agent_type = agent_type
        self._turns = turns
        self._stream = stream
        self._broker = broker
        self._subjects = subjects
        self._registry = registry
        self._calls = calls
        self._events = events
        self._tasks = tasks
        self._subscription: BrokerSubscription | None = None
        self._reader = StreamReader(
            broker,
            subjects.events_stream,
            filters=list,
            start=lambda: None,
            on_message=self._on_event,
            room=lambda: WINDOW - len(self._unfinished),
            durable=subjects.consumer_of(agent_type),
        )
        self._reading: asyncio.Task[None] | None = None
        self._unfinished: set[str] = set()

    async def start(self) -> None:
        self._subscription = await self._broker.subscribe(
            self._subjects.rpc_type(self.agent_type), self._on_call, queue=type_token(self.agent_type)
        )
        self._reading = self._tasks.start(self._reader.run(), name=f"hivewire: reader {self.agent_type}")
        self._tasks.start(self._report_progress(), name=f"hivewire: progress {self.agent_type}")

    async def stop(self) -> None:
        """Take no further work; returns when all that was asked for has come and runs."""
        if self._subscription is not None:
            await self._subscription.drain()
        if self._reading is not None:
            self._reader.finish(LEAVE_S)
            await asyncio.wait([self._reading])
        self._turns.withdraw(self)

    async def is_drained(self) -> bool:
        return not self._unfinished and await self._reader.is_drained() and not self._unfinished

    async def _on_call(self, message: Msg) -> None:
        if not self._calls.wants_reply(message):
            return
        if not self._calls.may_start():
            await self._calls.bounce(message)
            return
        call = await self._calls.read(message, self.agent_type)
        if call is not None:
            self._tasks.start(self._calls.serve(call, self._calls.turn_of(call, self)))

    def _on_event(self, message: StreamMessage) -> None:
        record = self._registry.get(self.agent_type)
        incoming = None if record is None else self._events.recipient(message, self.agent_type, record.subscriptions)
        self._unfinished.add(message.reply)
        self._tasks.start(self._run_event(message, incoming))

    async def _run_event(self, message: StreamMessage, incoming: IncomingEvent | None) -> None:
        try:
            finished = incoming is None or await self._serve(message, incoming)
            await self._acknowledge(message.reply, b"+ACK" if finished else b"-NAK")
        except asyncio.CancelledError:
            await self._acknowledge(message.reply, b"-NAK")
            raise
        finally:
            self._unfinished.discard(message.reply)
            self._reader.wake()

    async def _serve(self, message: StreamMessage, incoming: IncomingEvent) -> bool:
        stream = self._stream()
        turn = self._events.turn_of(incoming, stream=stream, epoch=message.delivery, owner=self)
        turn.group = self._subjects.consumer_of(self.agent_type)
        if message.delivery <= MAX_DELIVERIES:
            return await self._events.serve(incoming, turn, stream=stream)
        lost = WorkerLostError(f"{MAX_DELIVERIES} processes in turn took this event and none of them finished it")
        return await self._events.give_up(incoming, turn, lost, attempts=MAX_DELIVERIES, stream=stream)

    async def _report_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            for reply in list(self._unfinished):
                await self._acknowledge(reply, b"+WPI")

    async def _acknowledge(self, reply: str, what: bytes) -> None:
        try:
            await self._broker.publish(reply, what)
        except BrokerUnavailableError as error:
            log.warning("an event of %s is not acknowledged and comes again: %s", self.agent_type, error)
