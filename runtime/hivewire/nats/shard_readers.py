"""The readers of the shards that a process owns, put together and taken apart as the reader plan says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.positions import PositionTracker
from hivewire.nats.reader_plan import plan_readers
from hivewire.nats.shard_scope import ShardScope, reader_filters
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope

log = logging.getLogger("hivewire.readers")


class ReadingShard(Protocol):
    """What a reader needs of a shard."""

    scope: ShardScope
    tracker: PositionTracker

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

    Args:
        may_read: Asked before each message; while it says no, nothing is handed over.
    """

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        tasks: TaskScope,
        *,
        may_read: Callable[[], bool],
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._tasks = tasks
        self._may_read = may_read
        self._readers: dict[ReadingShard, _SharedReader] = {}

    def add(self, shard: ReadingShard) -> None:
        """Read for a shard, alone at first."""
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
        drained = await asyncio.gather(*(reader.is_drained() for reader in set(self._readers.values())))
        return all(drained)

    async def replan(self) -> None:
        """Let a shard whose window is full read alone, and those that have caught up together."""
        alone = [shard for shard, reader in self._readers.items() if len(reader.members) == 1]
        candidates = [shard for shard in alone if shard.quiet and self._has_company(shard)]
        if candidates:
            await self._catch_up(candidates)
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

    async def _catch_up(self, candidates: Sequence[ReadingShard]) -> None:
        """Move the positions of shards for which nothing waits to the end of the stream, so that a shared reader does
        not begin at the oldest of them.

        The end is asked for first: what is stored after it may not be counted as read.
        """
        try:
            end = int((await self._broker.api(f"STREAM.INFO.{self._subjects.events_stream}"))["state"]["last_seq"])
            readers = [reader for shard in candidates if (reader := self._readers.get(shard)) is not None]
            for reader, drained in zip(
                readers, await asyncio.gather(*(reader.is_drained() for reader in readers)), strict=True
            ):
                reader.level = drained
                if drained:
                    reader.skip_to(end)
        except (BrokerUnavailableError, JetStreamError) as error:
            log.debug("asking for the end of the stream: %s", error)

    def _start(self, members: list[ReadingShard]) -> None:
        reader = _SharedReader(self._broker, self._subjects, members, self._may_read)
        for shard in members:
            self._readers[shard] = reader
        reader.start(self._tasks)


class _SharedReader:
    """One consumer for some shards. Each message is offered to all of them; each knows what is its own."""

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        members: list[ReadingShard],
        may_read: Callable[[], bool],
    ) -> None:
        self.members = members
        self.pending = 0
        self.level = False
        self._may_read = may_read
        self._read_through = min(shard.tracker.last_read for shard in members)
        self._stopped = False
        self._reader = StreamReader(
            broker,
            subjects.events_stream,
            filters=lambda: reader_filters(((each.scope, each.tracker.in_force) for each in members), subjects),
            start=lambda: self._read_through + 1,
            on_message=self._on_message,
            room=lambda: min(shard.room for shard in members),
        )
        self._reading: asyncio.Task[None] | None = None

    def start(self, tasks: TaskScope) -> None:
        self._reading = tasks.start(self._reader.run(), name="hivewire: reader")

    def stop(self) -> None:
        """Hand over nothing more. The members have read all that came before."""
        self._stopped = True
        self.skip_to(self._read_through)
        if self._reading is not None:
            self._reading.cancel()

    def skip_to(self, sequence: int) -> None:
        for shard in self.members:
            shard.tracker.skip_to(sequence)

    def wake(self) -> None:
        self._reader.wake()

    async def is_drained(self) -> bool:
        return await self._reader.is_drained()

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
