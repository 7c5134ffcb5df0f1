"""One shard that this process owns: its direct messages, its reader, and its position.

A shard here is a share of a type's keys, or the one key of a registered instance. What it is a share of is told by a
`ShardScope`; ownership itself is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Hashable
from dataclasses import dataclass, replace
from typing import Any

from nats.aio.msg import Msg

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import Bucket, WriteConflictError
from hivewire.nats.connection import BrokerSubscription
from hivewire.nats.event_turns import EventTurns, IncomingEvent
from hivewire.nats.handover import HeldKeys
from hivewire.nats.incoming import IncomingCall, IncomingCalls
from hivewire.nats.positions import Position, PositionTracker, RunningElsewhere
from hivewire.nats.registry import read_marker
from hivewire.nats.shard_readers import ShardReaders
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.stream_reader import StreamMessage
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.task_scope import TaskScope

log = logging.getLogger("hivewire.shards")

WINDOW = 256
"""Events of one shard that are read and not finished, at the most."""

SAVE_EVERY_S = 1.0
SAVE_EVERY_EVENTS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardServices:
    """What every shard of a process works with."""

    broker: Broker
    subjects: Subjects
    positions: Bucket
    calls: IncomingCalls
    events: EventTurns
    readers: ShardReaders
    passivate: Callable[[ShardScope, Collection[str]], Coroutine[Any, Any, None]]
    tasks: TaskScope


class OwnedShard:
    """Serves a shard from `start` until `release` or `abandon`.

    Args:
        position: The record as this process claimed it, at `revision`.
        tracker: The reading so far, when the same process claims a shard again that it never gave to another.
    """

    def __init__(
        self,
        scope: ShardScope,
        services: ShardServices,
        position: Position,
        revision: int,
        *,
        tracker: PositionTracker | None = None,
    ) -> None:
        self.scope = scope
        self.position = position
        self.tracker = tracker or PositionTracker(position)
        self.held = HeldKeys(position.running, finish=self.tracker.finish)
        self._services = services
        self._revision = revision
        self._marker = services.subjects.marker(scope.agent_type)
        self._serving = False
        self._released = False
        self._lost = False
        self._subscriptions: list[BrokerSubscription] = []
        self._running: defaultdict[str, int] = defaultdict(int)
        self._running_events: defaultdict[str, list[int]] = defaultdict(list)
        self._saved_at = asyncio.get_running_loop().time()
        self._saved_count = self.tracker.finished_count
        self._saved_floor = self.tracker.floor

    def __repr__(self) -> str:
        state = "serving" if self._serving else "not serving"
        return f"<OwnedShard {self.scope.agent_type}/{self.scope.name} {state} floor={self.tracker.floor}>"

    @property
    def lag(self) -> int:
        """Events that wait or run, as far as the reader knows."""
        return self._services.readers.pending(self) + self.tracker.unfinished

    @property
    def slots(self) -> Hashable:
        """What shards must have in common to share a reader."""
        return (self.scope.shard, self.scope.shards, self.scope.key is None)

    @property
    def room(self) -> int:
        """How many events more the shard would take now."""
        unsaved = self.tracker.finished_count - self._saved_count
        return 0 if unsaved > 2 * SAVE_EVERY_EVENTS else WINDOW - self.tracker.unfinished

    @property
    def quiet(self) -> bool:
        """Whether the shard has nothing to do, as far as it knows."""
        return not self.tracker.unfinished and not self.held and not self._services.readers.pending(self)

    @property
    def serving(self) -> bool:
        return self._serving

    @property
    def busy_keys(self) -> list[str]:
        """The tokens of the keys whose turns run here."""
        return list(self._running)

    async def start(self) -> None:
        """Take direct messages and read events. The caller flushes the connection before it says that it is ready."""
        services, scope = self._services, self.scope
        self._serving = True
        for subject in scope.calls(services.subjects):
            # One queue group per type: of two processes that both think they own the shard, one gets a call.
            self._subscriptions.append(
                await services.broker.subscribe(subject, self._on_call, queue=type_token(scope.agent_type))
            )
        services.readers.add(self)

    async def release(self) -> bool:
        """Give up the shard: stop taking work, write the position, leave running turns running.

        Returns whether turns still run here, for which the next owner will ask.

        Raises:
            BrokerUnavailableError, JetStreamError: the position could not be written; the shard is still this
                process's, though it serves no more.
            WriteConflictError: somebody else has the shard already.
        """
        await self._stop_taking()
        session = self.position.owner
        running = dict(self.held.running)
        for key in self._running:
            running[key] = RunningElsewhere(
                self._services.events.deployment, session or "", tuple(self._running_events.get(key, ()))
            )
        await self._write(replace(self._current(), owner=None, running=running))
        self._released = True
        await self._services.passivate(self.scope, self._running)
        return bool(self._running)

    async def conclude(self) -> bool:
        """Once the turns of a released shard have ended, write so; False: somebody else has the shard and will ask.

        Raises:
            BrokerUnavailableError, JetStreamError: it could not be written.
        """
        try:
            await self._write(replace(self._current(), owner=None))
        except WriteConflictError:
            return False
        return True

    async def abandon(self) -> None:
        """Stop at once without a word: the session is lost, or somebody else has the shard."""
        self._lost = True
        self._serving = False
        self._services.readers.remove(self)
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions = []
        for refuse in self.held.drain():
            refuse()

    async def _stop_taking(self) -> None:
        """Take no further work; what the server had sent already is refused."""
        self._serving = False
        self._services.readers.remove(self)
        await asyncio.gather(*(subscription.drain() for subscription in self._subscriptions))
        self._subscriptions = []
        for refuse in self.held.drain():
            refuse()

    async def save_if_due(self) -> bool:
        """Write the position if it moved and the last write is old enough. False: somebody else has the shard."""
        if self._lost or not self._serving:
            return not self._lost
        tracker = self.tracker
        finished = tracker.finished_count - self._saved_count
        if not finished and tracker.floor == self._saved_floor:
            return True
        now = asyncio.get_running_loop().time()
        if now - self._saved_at < SAVE_EVERY_S and finished < SAVE_EVERY_EVENTS:
            return True
        try:
            await self._write(self._current())
        except WriteConflictError:
            log.warning("%r was claimed by another process", self)
            return False
        except (BrokerUnavailableError, JetStreamError) as error:
            # It is written again soon; until then the reader does not run far ahead.
            log.warning("writing the position of %r: %s", self, error)
        return True

    def _current(self) -> Position:
        tracker = self.tracker
        return replace(
            self.position,
            subscriptions=tracker.in_force_at_floor,
            floor=tracker.floor,
            finished=tracker.finished_above_floor,
            running=self.held.running,
            lag=self.lag,
        )

    async def _write(self, position: Position) -> None:
        services = self._services
        key = services.subjects.position_key(self.scope.agent_type, self.scope.name)
        count, floor = self.tracker.finished_count, self.tracker.floor
        self._revision = await services.positions.put(key, position.to_json(), revision=self._revision, timeout=5)
        self.position = position
        self._saved_at = asyncio.get_running_loop().time()
        self._saved_count, self._saved_floor = count, floor
        services.readers.wake(self)

    # Messages

    async def _on_call(self, message: Msg) -> None:
        calls = self._services.calls
        if not self._serving or not calls.may_start():
            await calls.bounce(message)
            return
        call = await calls.read(message, self.scope.agent_type)
        if call is None:
            return
        key = message.subject.rpartition(".")[2]
        if self.held and self.held.take(key, None, lambda: self._begin_call(key, call)):
            return
        self._begin_call(key, call)

    def _begin_call(self, key: str, call: IncomingCall) -> None:
        if self._serving:
            self._running[key] += 1
            self._services.tasks.start(self._run_call(key, call))
        else:
            self._services.tasks.start(self._services.calls.refuse(call))

    async def _run_call(self, key: str, call: IncomingCall) -> None:
        try:
            await self._services.calls.serve(call)
        finally:
            self._ended(key)

    def on_message(self, message: StreamMessage) -> bool:
        """Take the next message that the reader has. True: it changed the subscriptions."""
        tracker = self.tracker
        if message.subject == self._marker:
            change = read_marker(message.payload)
            return change is not None and tracker.read_marker(message.sequence, change)
        incoming = self._services.events.recipient(message, self.scope.agent_type, tracker.in_force)
        # Whoever shares the reader gets the others' events too.
        if incoming is None or (self.scope.key is not None and incoming.agent.key != self.scope.key):
            return False
        if tracker.read(message.sequence) and not (
            self.held
            and self.held.take(incoming.key, message.sequence, lambda: self._begin_event(incoming, message.sequence))
        ):
            self._begin_event(incoming, message.sequence)
        return False

    def _begin_event(self, incoming: IncomingEvent, sequence: int) -> None:
        self._running[incoming.key] += 1
        self._running_events[incoming.key].append(sequence)
        self._services.tasks.start(self._run_event(incoming, sequence))

    async def _run_event(self, incoming: IncomingEvent, sequence: int) -> None:
        try:
            await self._services.events.serve(incoming, sequence)
            self.tracker.finish(sequence)
        finally:
            sequences = self._running_events[incoming.key]
            sequences.remove(sequence)
            if not sequences:
                del self._running_events[incoming.key]
            self._ended(incoming.key)
            if self.tracker.unfinished <= WINDOW // 2:
                self._services.readers.wake(self)

    def _ended(self, key: str) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
            if self._released and not self._services.tasks.closing:
                self._services.tasks.start(self._services.passivate(self.scope, self._running))
