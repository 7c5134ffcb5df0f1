"""Sends the firings of schedules to where they are meant for.

The broker's timers fire into a stream of their own, which all serving processes read through one shared consumer. A
firing is stored as an event or in its agent's inbox, under an id that is the same whoever does it; then the timer for
the next firing is set, on the condition that this firing is still there, so that a schedule that was cancelled or
replaced meanwhile does not come back; then the firing is acknowledged. What dies in between is done again by another
process, and stores nothing twice within the deduplication window.

There is one timer at a time, set after its predecessor was forwarded. So what a schedule missed while the broker or
all processes were away is one firing, and not a burst.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Final

from hivewire.exceptions import (
    AccessDeniedError,
    AgentNotFoundError,
    BrokerUnavailableError,
    SerializationError,
    UnsupportedFormatError,
)
from hivewire.model.ids import AgentId
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.dead_letters import DeadLetter, describe, store_dead_letter
from hivewire.nats.registry import Registry
from hivewire.nats.schedule_records import ScheduleRecord
from hivewire.nats.server_clock import ServerClock
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope

log = logging.getLogger("hivewire.schedules")

WINDOW: Final = 100
"""Firings that this process forwards at once, at the most."""

PURGE_EVERY_S: Final = 1.0
LEAVE_S: Final = 0.3
STORE_TIMEOUT_S: Final = 4.0
"""Shorter than the consumer's acknowledgement wait: what takes longer, another process does as well."""

UNKNOWN_TYPE_ATTEMPTS: Final = 6
_UNKNOWN_TYPE_PAUSE_S: Final = 2.0
_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 15.0
_TAKEN: Final = (10071, 10164)
_LATER: Final = b"-NAK "


class Forwarder:
    """This process's part in forwarding, from `start` until `stop`."""

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        registry: Registry,
        clock: ServerClock,
        tasks: TaskScope,
        *,
        instance: str,
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._registry = registry
        self._clock = clock
        self._tasks = tasks
        self._instance = instance
        self._stream = subjects.schedules_stream
        self._unfinished: set[asyncio.Task[None]] = set()
        self._done: dict[str, int] = {}
        self._reader = StreamReader(
            broker,
            self._stream,
            filters=list,
            start=lambda: None,
            on_message=self._on_firing,
            room=lambda: WINDOW - len(self._unfinished),
            durable=subjects.forward_consumer,
        )
        self._reading: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._reading = self._tasks.start(self._reader.run(), name="hivewire: schedules")
        self._tasks.start(self._purge(), name="hivewire: purge of firings")

    async def stop(self) -> None:
        """Take no further firings; returns when those that came are forwarded."""
        if self._reading is None:
            return
        self._reader.finish(LEAVE_S)
        await asyncio.wait([self._reading])
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=STORE_TIMEOUT_S)

    def _on_firing(self, message: StreamMessage) -> None:
        task = self._tasks.start(self._serve(message))
        self._unfinished.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._unfinished.discard(task)
        self._reader.wake()

    async def _serve(self, message: StreamMessage) -> None:
        """Forward a firing and say what became of it. Whatever is wrong with it holds up no other."""
        pause = min(_PAUSE_S * 2 ** min(message.delivery - 1, 10), _LONGEST_PAUSE_S)
        try:
            answer = await self._outcome(message)
        except UnsupportedFormatError as error:
            log.error("the firing on %s waits for a newer version: %s", message.subject, error)
            answer = _again_after(_LONGEST_PAUSE_S)
        except SerializationError as error:
            log.error("the firing %d on %s is dropped: %s", message.sequence, message.subject, error)
            answer = b"+TERM"
        except (BrokerUnavailableError, JetStreamError, AccessDeniedError) as error:
            log.warning("the firing on %s is forwarded later: %s", message.subject, error)
            answer = _again_after(pause)
        except Exception:
            # Such as a time zone that this process does not know.
            log.exception("the firing on %s can't be forwarded here", message.subject)
            answer = _again_after(pause)
        try:
            await self._broker.publish(message.reply, answer)
        except BrokerUnavailableError as error:
            log.warning("a firing on %s is not acknowledged and comes again: %s", message.subject, error)
        else:
            if not answer.startswith(_LATER):
                self._done[message.subject] = message.sequence

    async def _outcome(self, message: StreamMessage) -> bytes:
        """Forward a firing and return its acknowledgement."""
        record = ScheduleRecord.decode(message.headers, message.payload)
        if message.subject != self._subjects.due(record.id):
            raise SerializationError(f"its header names the schedule {record.id!r}, its subject says otherwise")
        if isinstance(record.target, AgentId) and not self._is_registered(record.target.type):
            if message.delivery < UNKNOWN_TYPE_ATTEMPTS:
                return _again_after(_UNKNOWN_TYPE_PAUSE_S)
            await self._give_up(record, record.target, message)
        else:
            subject, headers = record.firing(self._subjects, message.sequence)
            await self._broker.store(subject, record.payload, headers=headers, timeout=STORE_TIMEOUT_S)
        await self._set_next(record, message)
        return b"+ACK"

    def _is_registered(self, agent_type: str) -> bool:
        known = self._registry.get(agent_type)
        return known is not None and known.shape is not None

    async def _set_next(self, record: ScheduleRecord, message: StreamMessage) -> None:
        following = record.next(await self._clock.now())
        if following is None:
            return
        headers = following.timer(self._subjects)
        headers["Nats-Expected-Last-Subject-Sequence"] = str(message.sequence)
        headers["Nats-Expected-Last-Subject-Sequence-Subject"] = message.subject
        try:
            await self._broker.store(
                self._subjects.schedule(record.id), record.payload, headers=headers, timeout=STORE_TIMEOUT_S
            )
        except JetStreamError as error:
            if error.code not in _TAKEN:
                raise
            log.debug("schedule %s was cancelled or replaced, or has fired again", record.id)

    async def _give_up(self, record: ScheduleRecord, agent: AgentId, message: StreamMessage) -> None:
        """Put a firing for a type that nobody knows among the dead letters, where it can be replayed from."""
        error = AgentNotFoundError(
            f"Recipient not found: no process has registered the type of {agent}, which schedule {record.id!r} is for"
        )
        log.error("the firing of schedule %s goes to the dead letters: %s", record.id, error)
        _, headers = record.firing(self._subjects, message.sequence)
        name, text, _ = describe(error)
        letter = DeadLetter(
            agent=agent,
            sequence=message.sequence,
            stream=self._stream,
            subject=message.subject,
            error=name,
            message=text,
            traceback="",
            attempts=0,
            instance=self._instance,
            session="",
            time=time.time(),
            headers=headers,
            payload=message.payload,
        )
        await store_dead_letter(self._broker, self._subjects, letter)

    async def _purge(self) -> None:
        """Remove the firings that are done with, and only those: others lie before and after them."""
        while True:
            await asyncio.sleep(PURGE_EVERY_S)
            done, self._done = self._done, {}
            try:
                if done:
                    await self._remove(done)
            except (BrokerUnavailableError, JetStreamError) as error:
                log.warning("forwarded firings are removed later: %s", error)
                self._done = {**done, **self._done}

    async def _remove(self, done: dict[str, int]) -> None:
        info = await self._broker.api(f"CONSUMER.INFO.{self._stream}.{self._subjects.forward_consumer}")
        floor = int(info["ack_floor"]["stream_seq"])
        if floor > 0:
            # Up to the floor all firings are done with; the filter leaves the timers among them alone.
            await self._remove_up_to(floor, self._subjects.dues)
        for subject, sequence in done.items():
            # One that can't be forwarded may hold the floor back for long.
            if sequence > floor:
                await self._remove_up_to(sequence, subject)

    async def _remove_up_to(self, sequence: int, subject: str) -> None:
        await self._broker.api(f"STREAM.PURGE.{self._stream}", {"filter": subject, "seq": sequence + 1})


def _again_after(seconds: float) -> bytes:
    return _LATER + json.dumps({"delay": int(seconds * 1_000_000_000)}).encode()
