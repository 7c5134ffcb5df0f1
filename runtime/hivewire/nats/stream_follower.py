"""Reads a kept stream: what is stored of it, what is still to come, and whether anything still can.

The chunks come through a reader of the broker's stream, which begins anew at the next sequence after whatever is odd.
While none come, it is asked whether the handler still runs. Once nobody says so, and nothing more is stored than was
read, the stream has ended without an end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from hivewire.exceptions import (
    BrokerUnavailableError,
    HivewireError,
    RuntimeStateError,
    StreamNotFoundError,
    UnsupportedFormatError,
    WorkerLostError,
)
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.chunk_order import ChunkOrder, ChunkSearch, Place
from hivewire.nats.envelope import EnvelopeError, ReplyEnvelope, decode_reply
from hivewire.nats.stored_messages import StoredMessage, last_message_of, message_from
from hivewire.nats.stream_pulse import PulseWatch, pulse_of
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope

log = logging.getLogger("hivewire.streams")

LOOK_EVERY_S: Final = 3.0
"""After so long without a chunk it is asked whether the handler runs."""

AWAY_S: Final = 30.0
"""How long the broker may be away, or not answer."""

WINDOW_CHUNKS: Final = 100
WINDOW_BYTES: Final = 1024 * 1024
"""How much is fetched that was not taken: less than both, as far as the size of coming chunks can be told."""


class ReadingStopped(Exception):
    """The reader was stopped."""


class StreamFollower:
    """One reader's way through a kept stream.

    Args:
        after: The number of the last chunk that the reader has.
    """

    def __init__(self, broker: Broker, subjects: Subjects, tasks: TaskScope, stream_id: str, *, after: int) -> None:
        self._broker = broker
        self._tasks = tasks
        self._id = stream_id
        self._stream = subjects.chunks_stream
        self._subject = subjects.chunk(stream_id)
        self._pulse = subjects.pulse(stream_id)
        self._after = after
        self._order = ChunkOrder(after)
        self._watch = PulseWatch()
        self._changed = asyncio.Event()
        self._seen = 0
        self._largest = 1
        self._failure: BaseException | None = None
        self._verdict: BaseException | None = None
        self._doubt: WorkerLostError | BrokerUnavailableError | None = None
        self._trouble: JetStreamError | BrokerUnavailableError | None = None
        self._reached_at = time.monotonic()
        self._reader: StreamReader | None = None
        self._reading: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def find(self) -> None:
        """Look for the stream, and for where to begin.

        Raises:
            StreamNotFoundError: nothing of it is kept.
            BrokerUnavailableError: the broker did not answer.
        """
        await self._broker.wait_connected(asyncio.get_running_loop().time() + AWAY_S)
        last = await self._stored(last=True)
        first = await self._stored(at=1)
        if last is None or first is None:
            raise self._not_found()
        search = ChunkSearch(after=self._after, first=_place(first), last=_place(last))
        while (question := search.question) is not None:
            found = await self._stored(at=question)
            search.answer(_place(last if found is None else found))
        self._seen = search.start - 1

    def follow(self, sequence: int | None = None) -> None:
        """Begin to read, after the sequence in the broker's stream where the stream begins, or where `find` has found
        it."""
        self._seen = self._seen if sequence is None else sequence
        self._reached_at = time.monotonic()
        self._reader = StreamReader(
            self._broker,
            self._stream,
            filters=lambda: [self._subject],
            start=lambda: self._seen + 1,
            on_message=self._on_message,
            room=self._room,
            on_made=self._on_made,
            on_failed=self._on_failed,
        )
        self._reading = self._tasks.start(self._reader.run(), name="hivewire: kept stream")
        self._reading.add_done_callback(self._on_reading_ended)

    def stop(self) -> None:
        """Read no more, also where `next` waits."""
        self.break_off(ReadingStopped())
        if self._reading is not None:
            self._reading.cancel()

    def abandon(self) -> None:
        """Do the same, from any thread, for a reader that is gone."""
        task = self._reading
        if task is not None and not task.done():
            loop = task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

    def call_failed(self, error: BaseException) -> None:
        """Take note of the error of the call behind the stream, which may be all that will ever be known of its end."""
        self._verdict = error
        self._changed.set()

    def call_lost(self, error: WorkerLostError | BrokerUnavailableError) -> None:
        """Take note that nothing more is heard of the call. Its handler may go on all the same."""
        self._doubt = error

    def break_off(self, error: BaseException) -> None:
        """End the reading with an error, whatever there still is to read."""
        self._failure = error
        self._changed.set()
        if self._looking is not None:
            self._looking.cancel()

    @property
    def is_ready(self) -> bool:
        """Whether `next` has something to return without waiting."""
        return self._order.is_ready

    async def next(self, deadline: float | None = None) -> ReplyEnvelope:
        """Return the next chunk or what ends the stream, by `deadline` of the event loop's clock.

        Raises:
            TimeoutError: it passed.
            StreamNotFoundError: chunks that come next are not kept.
            ValueError: the stream has no chunk to begin after.
            WorkerLostError: the handler is gone, and everything that it stored was returned.
            BrokerUnavailableError: the broker did not answer for long.
            RuntimeStateError: the runtime stopped.
            ReadingStopped: `stop` was called.
        """
        while self._failure is None:
            record = self._order.take()
            if record is not None:
                self._make_room()
                return record
            self._check()
            self._changed.clear()
            if self._verdict is not None:
                await self._look_by(deadline)
            if self._failure is None and not self._order.is_ready:
                await self._wait(deadline)
        raise self._failure

    async def _wait(self, deadline: float | None) -> None:
        """Wait for a change, and look what is wrong when none comes."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + LOOK_EVERY_S, deadline or float("inf"))):
                await self._changed.wait()
        except TimeoutError:
            if deadline is not None and loop.time() >= deadline:
                raise
            await self._look_by(deadline)

    async def _look_by(self, deadline: float | None) -> None:
        """Look what is wrong, until the deadline, or until the reading is broken off."""
        if self._tasks.closing:
            # The end of the reading follows.
            return
        looking = self._looking = self._tasks.start(self._look(), name="hivewire: look after a kept stream")
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.wait((looking,))
        finally:
            looking.cancel()

    async def _look(self) -> None:
        """Look whether anything can still come."""
        now = time.monotonic()
        try:
            if not self._broker.connected.is_set():
                raise BrokerUnavailableError(self._broker.trouble)
            if self._trouble is not None:
                raise self._trouble
            if self._verdict is None:
                pulse = await pulse_of(self._broker, self._pulse)
                gone = self._watch.hear(pulse, now, begun=self._order.highest > 0)
                if isinstance(self._doubt, WorkerLostError) and pulse != "running":
                    gone = True
                if not gone and self._order.missing is None:
                    self._reached_at = now
                    return
            await self._conclude()
            self._reached_at = now
        except (BrokerUnavailableError, JetStreamError) as error:
            self._watch.reset()
            if now - self._reached_at > AWAY_S:
                self._failure = BrokerUnavailableError(
                    f"The stream {self._id} could not be read for {AWAY_S:g} s: {error}"
                )
        except HivewireError as error:
            self._failure = error

    async def _conclude(self) -> None:
        """The handler seems to be gone, or something is missing: see what is stored."""
        first, last = await self._stored(at=1), await self._stored(last=True)
        missing = self._order.missing
        if first is None or last is None:
            self._failure = self._verdict or self._doubt or self._not_found()
        elif missing is not None and _place(first).number > missing:
            self._failure = self._gap(missing)
        elif last.sequence <= self._seen and self._order.missing is None and not self._order.is_ready:
            self._failure = self._verdict or self._doubt or self._worker_lost()

    def _check(self) -> None:
        missing = self._order.missing
        if self._order.is_beyond:
            self._failure = self._beyond()
        elif self._order.is_broken and missing is not None:
            self._failure = self._gap(missing)

    def _on_message(self, message: StreamMessage) -> None:
        self._seen = max(self._seen, message.sequence)
        self._reached_at = time.monotonic()
        self._watch.reset()
        try:
            record = decode_reply(message.headers, message.payload)
        except (EnvelopeError, UnsupportedFormatError) as error:
            log.error("a chunk of the stream %s can't be read: %s", self._id, error)
            return
        self._largest = max(self._largest - self._largest // 8, len(record.payload), 1)
        self._order.arrive(record)
        if message.pending == 0 and self._order.highest < self._after:
            self._failure = self._beyond()
        self._changed.set()

    def _on_reading_ended(self, _: object) -> None:
        if self._failure is None:
            self.break_off(
                RuntimeStateError(
                    f"The runtime stopped while the stream {self._id} was read: it may be resumed in another process"
                )
            )

    def _on_made(self, pending: int) -> None:
        self._trouble = None

    def _on_failed(self, error: Exception) -> None:
        if isinstance(error, JetStreamError | BrokerUnavailableError):
            self._trouble = error

    def _room(self) -> int:
        window = max(min(WINDOW_CHUNKS, WINDOW_BYTES // self._largest), 2)
        return window - len(self._order)

    def _make_room(self) -> None:
        # Asked for chunk by chunk, each would cost a message of its own.
        if self._reader is not None and self._reader.starved and len(self._order) <= self._room():
            self._reader.wake()

    async def _stored(self, *, at: int | None = None, last: bool = False) -> StoredMessage | None:
        if last:
            return await last_message_of(self._broker, self._stream, self._subject)
        assert at is not None
        return await message_from(self._broker, self._stream, at, self._subject)

    def _not_found(self) -> StreamNotFoundError:
        return StreamNotFoundError(
            f"Stream not found: {self._id}: no resumable stream has this id, it has not started, or is no longer kept"
        )

    def _worker_lost(self) -> WorkerLostError:
        return WorkerLostError(
            f"The process that ran the handler of the stream {self._id} is gone; its last chunk was number "
            f"{self._order.highest}"
        )

    def _gap(self, missing: int) -> StreamNotFoundError:
        return StreamNotFoundError(f"Chunk {missing} of the stream {self._id} is no longer kept")

    def _beyond(self) -> ValueError:
        return ValueError(
            f"The stream {self._id} can't be read after chunk {self._after}: it has no chunk of that number"
        )


def _place(message: StoredMessage) -> Place:
    return Place(sequence=message.sequence, number=decode_reply(message.headers, b"").number or 0)
