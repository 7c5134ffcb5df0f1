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

from hivewire.exceptions import BrokerUnavailableError, MessageTooLargeError, WorkerLostError
from hivewire.nats.admitted import Admitted, KeyWindows
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import Bucket, WriteConflictError
from hivewire.nats.crash_guard import BATCH, MAX_ATTEMPTS, CrashGuard
from hivewire.nats.event_turns import EventTurns, IncomingEvent
from hivewire.nats.handover import HeldKeys
from hivewire.nats.incoming import IncomingCall, IncomingCalls
from hivewire.nats.parked_reading import ParkedReading
from hivewire.nats.parking import ParkedKeys
from hivewire.nats.positions import Position, PositionTracker, RunningElsewhere
from hivewire.nats.recorded_start import RecordedStart
from hivewire.nats.registry import read_marker
from hivewire.nats.shard_readers import ShardReaders
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.stream_reader import StreamMessage
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.subscription import BrokerSubscription
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.turns import Turns
from hivewire.telemetry import RuntimeMetrics

log = logging.getLogger("hivewire.shards")

WINDOW = 256
"""Events of one shard that are read and not finished, at the most, parked keys apart."""

SAVE_EVERY_S = 1.0
SAVE_EVERY_EVENTS = 1_000

TELL_LAG_EVERY_S = 5.0
"""How soon the record tells of a lag that changed while nothing was finished."""

STUCK_S = 5.0
"""A key whose oldest event has been here for so long makes room for others when the shard's window is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardServices:
    """What every shard of a process works with."""

    broker: Broker
    subjects: Subjects
    positions: Bucket
    calls: IncomingCalls
    events: EventTurns
    turns: Turns
    readers: ShardReaders
    passivate: Callable[[ShardScope, Collection[str]], Coroutine[Any, Any, None]]
    may_read: Callable[[], bool]
    relieve: Callable[[], None]
    tasks: TaskScope
    metrics: RuntimeMetrics


class OwnedShard:
    """Serves a shard from `start` until `release` or `abandon`.

    Args:
        position: The record as this process claimed it, at `revision`.
        end: The last sequence of the stream at that time, or later.
    """

    def __init__(
        self, scope: ShardScope, services: ShardServices, position: Position, revision: int, *, end: int = 0
    ) -> None:
        self.scope = scope
        self.position = position
        self.tracker = PositionTracker(position)
        self.parked = ParkedKeys(position.parked, tracker=self.tracker)
        self.held = HeldKeys(position.running, finish=self._finish_elsewhere)
        self.session = position.owner or ""
        self.unfinished_here: list[int] = []
        self._guard = CrashGuard(position, end=end)
        self._services = services
        self._revision = revision
        self._marker = services.subjects.marker(scope.agent_type)
        self._serving = False
        self._released = False
        self._lost = False
        self._subscriptions: list[BrokerSubscription] = []
        self._admitted: set[Admitted] = set()
        self._windows = KeyWindows()
        self._held_back: dict[int, str] = {}
        self._parked_reading = ParkedReading(
            services.broker,
            services.subjects,
            services.events,
            services.tasks,
            agent_type=scope.agent_type,
            parked=self.parked,
            windows=self._windows,
            admit=self._admit,
            may_read=services.may_read,
            verify=services.readers.verifier(self),
        )
        self._recorded = RecordedStart(
            self._guard,
            write=self._write_current,
            start=self._start_event,
            busy_keys=self._keys_with_events,
            on_buried=services.relieve,
            trial=services.turns.trial,
        )
        self._recording: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._finished = 0
        self._saved_at = asyncio.get_running_loop().time()
        self._saved_finished = 0
        self._saved_floor = self.tracker.floor

    def __repr__(self) -> str:
        state = "serving" if self._serving else "not serving"
        return f"<OwnedShard {self.scope.agent_type}/{self.scope.name} {state} floor={self.tracker.floor}>"

    @property
    def lag(self) -> int:
        """Events that wait or run, as far as the reader knows."""
        return self._services.readers.pending(self) + self.tracker.unfinished + len(self.parked)

    @property
    def stream(self) -> str:
        """The creation time of the stream that its sequences are of."""
        return self.position.stream

    @property
    def slots(self) -> Hashable:
        """What shards must have in common to share a reader."""
        return (self.scope.shard, self.scope.shards, self.scope.key is None)

    @property
    def room(self) -> int:
        """How many events more the shard would take now."""
        if self._finished - self._saved_finished > 2 * SAVE_EVERY_EVENTS:
            return 0
        if self._services.turns.is_crowded(self.scope.agent_type):
            return 0
        return (BATCH if self._guard.careful else WINDOW) - self.tracker.unfinished

    @property
    def quiet(self) -> bool:
        """Whether the shard has nothing to do, as far as it knows."""
        idle = not self.tracker.unfinished and not self.held and not self.parked
        return idle and not self._services.readers.pending(self)

    @property
    def serving(self) -> bool:
        return self._serving

    @property
    def busy_keys(self) -> list[str]:
        """The tokens of the keys whose turns run here."""
        return list({each.key for each in self._admitted if each.turn.started})

    async def start(self) -> None:
        """Take direct messages and read events. The caller flushes the connection before it says that it is ready."""
        services, scope = self._services, self.scope
        self._serving = True
        for subject in scope.calls(services.subjects):
            # One queue group per type: of two processes that both think they own the shard, one gets a call.
            self._subscriptions.append(
                await services.broker.subscribe(subject, self._on_call, queue=type_token(scope.agent_type))
            )
        if self._guard.careful:
            self._recording = services.tasks.start(self._recorded.run(), name="hivewire: careful shard")
        services.readers.add(self)
        self._parked_reading.go_on()

    def relieve(self) -> None:
        """What this process's shards suffered from is found: their events are not suspected any more."""
        self._guard.relieved()
        self._recorded.look_again()

    async def release(self) -> bool:
        """Give up the shard: stop taking work, write the position, leave running turns running.

        Returns whether the position tells of turns that run here, for which the next owner will ask.

        Raises:
            BrokerUnavailableError, JetStreamError: the position could not be written; the shard is still this
                process's, though it serves no more.
            WriteConflictError: somebody else has the shard already.
        """
        await self._stop_taking()
        async with self._writing:
            left = self.as_left()
            # From here on the next owner has to be told of what ends, or fails, while this is still being written.
            self._released = True
            try:
                await self._write(left)
            except BaseException:
                self._released = False
                raise
        await self._services.passivate(self.scope, self.busy_keys)
        return any(each.session == self.session for each in left.running.values())

    def as_left(self) -> Position:
        """Return the position with the turns that run here, for whoever has the shard next."""
        running = dict(self.held.running)
        for key in self.busy_keys:
            sequences = [
                each.sequence
                for each in self._admitted
                if each.key == key and each.turn.started and each.sequence is not None
            ]
            running[key] = RunningElsewhere(self._services.events.deployment, self.session, tuple(sorted(sequences)))
        # Who is left alone with a suspect has not died of it.
        return replace(self._current(), owner=None, running=running, suspect=self._guard.suspect_before)

    async def conclude(self) -> bool:
        """Once the turns of a released shard have ended, write so; False: somebody else has the shard and will ask.

        Raises:
            BrokerUnavailableError, JetStreamError: it could not be written.
        """
        try:
            async with self._writing:
                await self._write(replace(self._current(), owner=None))
        except WriteConflictError:
            return False
        return True

    async def abandon(self) -> None:
        """Stop taking work and write nothing more: the session is lost, somebody else has the shard, or the stream that
        its position is of is gone. Running turns go on."""
        self._lost = True
        # At once, so that nothing starts any more by the time that the shard is claimed again.
        self._stop_reading()
        await self._stop_taking()

    async def _stop_taking(self) -> None:
        """Take no further work; what the server had sent already is refused, and what has not started is left."""
        self._serving = False
        self._services.readers.remove(self)
        await asyncio.gather(*(subscription.drain() for subscription in self._subscriptions))
        self._subscriptions = []
        self._stop_reading()
        if self._recording is not None:
            await asyncio.wait([self._recording])

    def _stop_reading(self) -> None:
        self._serving = False
        self._services.readers.remove(self)
        self._parked_reading.stop()
        self._recorded.leave()
        self._services.turns.withdraw(self)
        for refuse in self.held.drain():
            refuse()

    async def save_if_due(self) -> bool:
        """Write the position if it moved and the last write is old enough. False: somebody else has the shard."""
        if self._lost or not self._serving:
            return not self._lost
        if self._recorded.superseded:
            return False
        self._parked_reading.go_on()
        if self.tracker.unfinished >= WINDOW:
            self._put_back_stuck()
        finished = self._finished - self._saved_finished
        is_told = self.tracker.floor == self._saved_floor and self.position.unclean == self._guard.unclean
        if not finished and is_told and self.lag == self.position.lag:
            return True
        now = asyncio.get_running_loop().time()
        pause_s = TELL_LAG_EVERY_S if not finished and is_told else SAVE_EVERY_S
        if now - self._saved_at < pause_s and finished < SAVE_EVERY_EVENTS:
            return True
        try:
            await self._write_current()
        except WriteConflictError:
            log.warning("%r was claimed by another process", self)
            return False
        except (BrokerUnavailableError, JetStreamError, MessageTooLargeError) as error:
            # It is written again soon; until then the reader does not run far ahead.
            log.warning("writing the position of %r: %s", self, error)
        return True

    def _current(self) -> Position:
        tracker, guard = self.tracker, self._guard
        return replace(
            self.position,
            subscriptions=tracker.in_force_at_floor,
            floor=tracker.floor,
            finished=tracker.finished_above_floor,
            running=self.held.running,
            parked=self.parked.records,
            unclean=guard.unclean,
            started=guard.started,
            suspect=guard.suspect,
            lag=self.lag,
        )

    async def _write_current(self) -> None:
        async with self._writing:
            await self._write(self._current())

    async def _write(self, position: Position) -> None:
        services = self._services
        key = services.subjects.position_key(self.scope.agent_type, self.scope.name)
        finished = self._finished
        self._revision = await services.positions.put(key, position.to_json(), revision=self._revision, timeout=5)
        self.position = position
        self._guard.moved(position.needed_from - 1)
        self._saved_at = asyncio.get_running_loop().time()
        self._saved_finished, self._saved_floor = finished, position.floor
        self._recorded.look_again()
        services.readers.wake(self)

    # Direct messages

    async def _on_call(self, message: Msg) -> None:
        calls = self._services.calls
        if not calls.wants_reply(message):
            return
        if not self._serving or not calls.may_start():
            await calls.bounce(message)
            return
        call = await calls.read(message, self.scope.agent_type)
        if call is None:
            return
        key = message.subject.rpartition(".")[2]
        elsewhere = self.held.running.get(key) if self.held else None
        if elsewhere is not None and call.envelope.chain:
            # A turn that still runs there may wait for this very call.
            await calls.forward(call, message, self._services.subjects.pod(elsewhere.deployment, elsewhere.session))
            return
        if self.held and self.held.take(key, None, lambda: self._begin_call(key, call)):
            return
        self._begin_call(key, call)

    async def take_inner(self, message: Msg) -> bool:
        """Take a call that the next owner of the shard has sent here, as a turn that runs here caused it. False: no
        such turn does."""
        calls, key = self._services.calls, message.subject.rpartition(".")[2]
        if key not in self.busy_keys:
            return False
        call = await calls.read(message, self.scope.agent_type)
        if call is None:
            return True
        if not self._services.turns.is_inner(call.agent, call.envelope.chain):
            await calls.refuse(call)
            return True
        admitted = Admitted(key, calls.turn_of(call))
        self._admitted.add(admitted)
        self._services.tasks.start(self._run_call(admitted, call))
        return True

    def _begin_call(self, key: str, call: IncomingCall) -> None:
        calls, tasks = self._services.calls, self._services.tasks
        if self._serving:
            admitted = Admitted(key, calls.turn_of(call, self))
            self._admitted.add(admitted)
            tasks.start(self._run_call(admitted, call))
        else:
            tasks.start(calls.refuse(call))

    async def _run_call(self, admitted: Admitted, call: IncomingCall) -> None:
        try:
            await self._services.calls.serve(call, admitted.turn)
        finally:
            self._ended(admitted)

    # Events

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
        sequence, key = message.sequence, incoming.key
        if not tracker.read(sequence):
            return False
        if key in self.parked or self._windows.room(key) <= 0:
            # Left to a reader of this key alone, so that the shard is not full of it.
            self.parked.park(key, sequence, tracker.in_force)
            tracker.finish(sequence)
            self._finished += 1
        else:
            self._admit(incoming)
        return False

    def _put_back_stuck(self) -> None:
        """The window is full: leave what waits behind a turn that takes long, or fails, in the stream."""
        stuck_since = asyncio.get_running_loop().time() - STUCK_S
        waiting: defaultdict[str, list[Admitted]] = defaultdict(list)
        stuck = set()
        for each in self._admitted:
            if each.sequence is None:
                continue
            if each.since < stuck_since:
                stuck.add(each.key)
            if not each.turn.started and not each.turn.resting:
                waiting[each.key].append(each)
        key = max(stuck & waiting.keys(), key=lambda key: len(waiting[key]), default=None)
        if key is None:
            return
        # All after the first that stays, so that the order of the key is kept.
        ordered = sorted(waiting[key], key=lambda each: each.sequence or 0)
        if len(ordered) == self._windows.count(key):
            ordered = ordered[1:]
        back = []
        for each in reversed(ordered):
            if each.sequence is None or not self._services.turns.withdraw_one(each.turn):
                break
            back.append(each.sequence)
        if back:
            self.parked.put_back(key, back, self.tracker.in_force)
            self._parked_reading.remake(key)
            for sequence in back:
                self.tracker.finish(sequence)
            self._finished += len(back)

    def _admit(self, incoming: IncomingEvent) -> None:
        sequence, key, services = incoming.message.sequence, incoming.key, self._services
        turn = services.events.turn_of(incoming, stream=self.position.stream, epoch=self.position.epoch, owner=self)
        admitted = Admitted(key, turn, sequence, incoming, since=asyncio.get_running_loop().time())
        self._windows.take(key)
        if self.held and self.held.take(key, sequence, lambda: self._begin_event(admitted)):
            self._held_back[sequence] = key
        else:
            self._begin_event(admitted)

    def _begin_event(self, admitted: Admitted) -> None:
        if admitted.sequence is not None:
            self._held_back.pop(admitted.sequence, None)
        if not self._serving:
            return
        if not self._recorded.takes(admitted):
            self._start_event(admitted)

    def _start_event(self, admitted: Admitted, doomed: bool = False) -> asyncio.Task[None]:
        self._admitted.add(admitted)
        return self._services.tasks.start(self._run_event(admitted, doomed))

    async def _run_event(self, admitted: Admitted, doomed: bool) -> None:
        events, stream, turn = self._services.events, self.position.stream, admitted.turn
        sequence, event = admitted.sequence, admitted.event
        assert sequence is not None
        assert event is not None
        finished = False
        try:
            if doomed:
                finished = await events.give_up(event, turn, _killer(), attempts=MAX_ATTEMPTS, stream=stream)
            else:
                finished = await events.serve(
                    event, turn, stream=stream, on_failure=lambda: self._windows.fails(admitted.key)
                )
            if finished:
                self._finish(sequence)
            elif self._released or self._lost:
                self.unfinished_here.append(sequence)
        finally:
            key = admitted.key
            self._windows.forget(key)
            self._ended(admitted)
            self._recorded.look_again()
            if self._serving:
                if self.tracker.unfinished <= WINDOW // 2:
                    self._services.readers.wake(self)
                if key in self.parked and self._windows.wants(key):
                    self._parked_reading.go_on()

    def _finish(self, sequence: int) -> None:
        self._finished += 1
        if not self.parked.finish(sequence):
            self.tracker.finish(sequence)

    def _finish_elsewhere(self, sequence: int) -> None:
        self._finish(sequence)
        key = self._held_back.pop(sequence, None)
        if key is not None:
            self._windows.forget(key)

    def _keys_with_events(self) -> set[str]:
        return {each.key for each in self._admitted if each.sequence is not None}

    def _ended(self, admitted: Admitted) -> None:
        self._admitted.discard(admitted)
        left = (self._released or self._lost) and not self._services.tasks.closing
        if left and admitted.turn.ran and self.scope.key is None and admitted.key not in self.busy_keys:
            # Another process goes on with it.
            self._services.tasks.start(self._services.turns.passivate(admitted.turn.agent))


def _killer() -> WorkerLostError:
    return WorkerLostError(f"Every process that handled this event has died; it was tried alone {MAX_ATTEMPTS} times")
