"""The readers of the shards that a process owns, put together and taken apart as the reader plan says."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable
from typing import Protocol

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.event_stream import STREAM_NOT_FOUND, EventStream, StreamState
from hivewire.nats.lag_probe import count_waiting
from hivewire.nats.positions import PositionTracker
from hivewire.nats.reader_plan import plan_readers
from hivewire.nats.shard_scope import ShardScope, reader_filters
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope
from hivewire.telemetry.metrics import EVENTS_EXPIRED

log = logging.getLogger("hivewire.readers")

FOLLOW_EVERY_S = 60.0
"""How often the positions of shards for which nothing waits follow the end of the stream."""


FOLLOW_REPLICAS_EVERY_S = 5.0
"""The same for a stream with several replicas, where a consumer may not hear of what its leader has."""

DEAF_AFTER_S = 1.0

COUNT_EVERY_S = 5.0
"""How often it is asked how much waits for a reader that has no room: no message comes that would tell it."""


class ReadingShard(Protocol):
    """What a reader needs of a shard."""

    scope: ShardScope
    tracker: PositionTracker

    @property
    def stream(self) -> str:
        """The creation time of the stream that its sequences are of."""
        ...

    @property
    def slots(self) -> Hashable:
        """What shards must have in common to share a reader."""
        ...

    @property
    def room(self) -> int:
        """How many events more the shard would take now."""
        ...

    @property
    def quiet(self) -> bool:
        """Whether the shard has nothing to do, as far as it knows."""
        ...

    def on_message(self, message: StreamMessage) -> bool:
        """Take the next message of the stream. True: the filters changed with it, and what was fetched is void."""
        ...


class ShardReaders:
    """Reads for shards between `add` and `remove`; `replan` is to be called several times a second.

    `aged_out` counts the events that were gone before a shard had read as far, at the most.

    Args:
        may_read: Asked before each message; while it says no, nothing is handed over.
    """

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        stream: EventStream,
        tasks: TaskScope,
        *,
        may_read: Callable[[], bool],
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._stream = stream
        self._tasks = tasks
        self._may_read = may_read
        self._readers: dict[ReadingShard, _SharedReader] = {}
        self._followed_at = self._counted_at = asyncio.get_running_loop().time()
        self.aged_out = 0

    def add(self, shard: ReadingShard) -> None:
        """Read for a shard, alone at first."""
        # From here on it is there, so that its first increase is seen.
        EVENTS_EXPIRED.labels(self._subjects.namespace, shard.scope.agent_type)
        self._start([shard])

    def remove(self, shard: ReadingShard) -> None:
        """Hand no more messages to a shard, from now on."""
        reader = self._readers.pop(shard, None)
        if reader is None:
            return
        reader.stop()
        others = [each for each in reader.members if each is not shard]
        if others:
            self._start(others)

    def wake(self, shard: ReadingShard) -> None:
        """Take note that a shard's room has grown."""
        reader = self._readers.get(shard)
        if reader is not None:
            reader.wake()

    def pending(self, shard: ReadingShard) -> int:
        """Return how many events wait for a shard that reads alone; one that shares a reader keeps up."""
        reader = self._readers.get(shard)
        return reader.pending if reader is not None and len(reader.members) == 1 else 0

    async def is_drained(self) -> bool:
        """Tell whether everything that is stored by now is handed over."""
        try:
            seen = await self._stream.look()
            return all(await asyncio.gather(*(reader.is_drained(seen) for reader in set(self._readers.values()))))
        except (BrokerUnavailableError, JetStreamError) as error:
            log.debug("asking what waits: %s", error)
            return False

    async def follow_end(self) -> None:
        """Move the positions of all shards for which nothing waits to the end of the stream."""
        self._followed_at = asyncio.get_running_loop().time()
        await self._catch_up(set(self._readers.values()))

    async def replan(self) -> None:
        """Let a shard whose window is full read alone, and those that have caught up together; now and then, let quiet
        ones follow the end of the stream."""
        for reader in set(self._readers.values()):
            # Room that others had taken up comes back without a word.
            reader.wake_if_starved()
        every_s = FOLLOW_REPLICAS_EVERY_S if self._stream.replicas > 1 else FOLLOW_EVERY_S
        if asyncio.get_running_loop().time() - self._followed_at >= every_s:
            await self.follow_end()
        if asyncio.get_running_loop().time() - self._counted_at >= COUNT_EVERY_S:
            self._counted_at = asyncio.get_running_loop().time()
            await asyncio.gather(*(reader.count() for reader in set(self._readers.values()) if reader.starved))
        alone = [shard for shard, reader in self._readers.items() if len(reader.members) == 1]
        candidates = [shard for shard in alone if shard.quiet and self._has_company(shard)]
        if candidates:
            await self._catch_up({self._readers[shard] for shard in candidates})
        plan = plan_readers(
            (shard, shard.slots, shard.room > 0 and (len(reader.members) > 1 or (shard in candidates and reader.level)))
            for shard, reader in self._readers.items()
        )
        for members in plan:
            readers = {self._readers[shard] for shard in members}
            if len(readers) == 1 and len(next(iter(readers)).members) == len(members):
                continue
            for reader in readers:
                reader.stop()
            self._start(list(members))

    def _has_company(self, shard: ReadingShard) -> bool:
        return any(
            other is not shard and other.slots == shard.slots and (other.quiet or len(reader.members) > 1)
            for other, reader in self._readers.items()
        )

    async def _catch_up(self, readers: Collection[_SharedReader]) -> None:
        """Move the positions of shards for which nothing waits to the end of the stream, so that a shared reader does
        not begin at the oldest of them, and they don't keep from being removed what all others have finished.

        The end is asked for first: what is stored after it may not be counted as read.
        """
        try:
            end = await self._stream.look()
            drained = await asyncio.gather(*(reader.is_drained(end) for reader in readers))
        except (BrokerUnavailableError, JetStreamError) as error:
            log.debug("asking for the end of the stream: %s", error)
            return
        for reader, level in zip(readers, drained, strict=True):
            reader.level = level
            reader.read_through(end.last if level and reader.reads(end.created) else 0)

    def verifier(self, shard: ReadingShard) -> Callable[[], Awaitable[None]]:
        """Return what checks that a consumer which was just made reads the stream that a shard's sequences are of."""

        async def verify() -> None:
            _check_same((await self._stream.look()).created, [shard])

        return verify

    def _start(self, members: list[ReadingShard]) -> None:
        reader = _SharedReader(
            self._broker, self._subjects, self._stream, members, self._may_read, on_aged_out=self._count_aged_out
        )
        for shard in members:
            self._readers[shard] = reader
        reader.start(self._tasks)

    def _count_aged_out(self, events: int) -> None:
        self.aged_out += events


class _SharedReader:
    """One consumer for some shards. Each message is offered to all of them; each knows what is its own."""

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        stream: EventStream,
        members: list[ReadingShard],
        may_read: Callable[[], bool],
        *,
        on_aged_out: Callable[[int], None],
    ) -> None:
        self.members = members
        self.pending = 0
        self.level = False
        self._broker = broker
        self._denied: tuple[int, float] | None = None
        self._subjects = subjects
        self._stream = stream
        self._may_read = may_read
        self._on_aged_out = on_aged_out
        self._read_through = min(shard.tracker.last_read for shard in members)
        self._stopped = False
        self._reader = StreamReader(
            broker,
            subjects.events_stream,
            filters=self._filters,
            start=lambda: self._read_through + 1,
            on_message=self._on_message,
            room=lambda: min(shard.room for shard in members),
            verify=self._verify,
            on_failed=lambda _: stream.doubted.set(),
        )
        self._reading: asyncio.Task[None] | None = None

    def _filters(self) -> list[str]:
        return reader_filters(((each.scope, each.tracker.in_force) for each in self.members), self._subjects)

    def start(self, tasks: TaskScope) -> None:
        self._reading = tasks.start(self._reader.run(), name="hivewire: reader")

    def stop(self) -> None:
        """Hand over nothing more. The members have read all that came before."""
        self._stopped = True
        self.read_through(0)
        if self._reading is not None:
            self._reading.cancel()

    def reads(self, stream: str) -> bool:
        """Tell whether the stream with this creation time is the one that the members read."""
        return all(shard.stream == stream for shard in self.members)

    def read_through(self, sequence: int) -> None:
        """Take note that up to this sequence, or up to what was handed over already, there is nothing else to read."""
        self._read_through = max(self._read_through, sequence)
        for shard in self.members:
            shard.tracker.skip_to(self._read_through)

    def wake(self) -> None:
        self._reader.wake()

    def wake_if_starved(self) -> None:
        if self._reader.starved and all(shard.room > 0 for shard in self.members):
            self._reader.wake()

    @property
    def starved(self) -> bool:
        """Whether nothing is read, as there is no room."""
        return self._reader.starved

    async def count(self) -> None:
        """Ask how much waits."""
        read_through = self._read_through
        try:
            waiting = await count_waiting(
                self._broker, self._stream.name, self._filters(), start=read_through + 1, tidy=False
            )
        except (BrokerUnavailableError, JetStreamError) as error:
            log.debug("asking what waits: %s", error)
            return
        if self._read_through == read_through:
            self.pending = waiting

    async def is_drained(self, seen: StreamState) -> bool:
        """Tell whether all that was stored when the stream was seen, and is for the members, was handed over."""
        if not await self._reader.is_drained():
            return False
        read_through, now = self._read_through, asyncio.get_running_loop().time()
        if await self._stream.holds_none(self._filters(), after=read_through, seen=seen):
            self._denied = None
            return True
        # The consumer has not heard of what the leader has. One that does not hear of it for long never will.
        if self._denied is None or self._denied[0] != read_through:
            self._denied = read_through, now
        elif now - self._denied[1] >= DEAF_AFTER_S:
            log.warning("a reader is made anew: its consumer does not hand over what the stream has")
            self._denied = None
            self._reader.remake()
        return False

    async def _verify(self) -> None:
        """See that the consumer that was just made reads the stream that the members have read so far, and from there.

        Asked for afterwards, because a stream that is still the same now was so when the consumer was made.
        """
        state = await self._stream.look()
        _check_same(state.created, self.members)
        for shard in self.members:
            begin = max(self._read_through, shard.tracker.last_read) + 1
            if begin < state.first:
                log.error(
                    "events %d to %d were removed from stream %s before shard %s of type %s had read so far: those for "
                    "it are lost; see to its limits max_age, max_msgs and max_bytes",
                    begin,
                    state.first - 1,
                    self._stream.name,
                    shard.scope.name,
                    shard.scope.agent_type,
                )
                self._on_aged_out(state.first - begin)
                # Which of them were for the shard is not known any more.
                share = math.ceil((state.first - begin) / shard.scope.shards)
                EVENTS_EXPIRED.labels(self._subjects.namespace, shard.scope.agent_type).inc(share)
        self.read_through(state.first - 1)

    def _on_message(self, message: StreamMessage) -> None:
        if self._stopped:
            return
        if not self._may_read():
            self._reader.remake()
            return
        self._read_through = message.sequence
        self.pending = message.pending
        self.level = False
        changed = [shard.on_message(message) for shard in self.members]
        if any(changed):
            self._reader.change_filters()


def _check_same(created: str, shards: Iterable[ReadingShard]) -> None:
    if any(shard.stream != created for shard in shards):
        raise JetStreamError(STREAM_NOT_FOUND, "the stream that was read is gone, and another one has its name")
