"""A copy of a bucket that is brought up to date when somebody asks, for what changed since.

A live view costs a message for each change, a bulk read one for each key. This costs at most one for each key that
changed, so it suits whoever looks now and then at a bucket that is big, or is written all the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from hivewire.nats.broker import Broker
from hivewire.nats.stream_reader import StreamMessage, StreamReader

log = logging.getLogger("hivewire.buckets")

FORGET_AFTER_S = 30.0
"""The traces of deleted keys go after a minute, so a copy that is older than this is made anew."""

_ROOM = 1_000

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Copied(Generic[V]):
    """A value as it was read, and when it was written, by the server's clock."""

    value: V
    revision: int
    written_at: datetime


class BucketCopy(Generic[V]):
    """The keys of a bucket that match a pattern, as of the last `refresh`, with their values as `read` reads them.

    What `read` refuses is told in the log, and the key keeps the value that it had in the copy.
    """

    def __init__(self, broker: Broker, bucket: str, read: Callable[[bytes], V], *, pattern: str = ">") -> None:
        self._broker = broker
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._pattern = pattern
        self._read = read
        self._created = ""
        self._seen = 0
        self._refreshed_at = 0.0
        self.entries: dict[str, Copied[V]] = {}

    async def refresh(self) -> None:
        """Bring the copy up to what is stored by now. The caller sets the deadline.

        Raises:
            JetStreamError: there is no such bucket.
            BrokerUnavailableError: the broker doesn't answer.
            AccessDeniedError: the credentials don't allow it.
        """
        info = await self._broker.api(f"STREAM.INFO.{self._stream}")
        created, last = str(info["created"]), int(info["state"]["last_seq"])
        now = asyncio.get_running_loop().time()
        if created != self._created or last < self._seen or now - self._refreshed_at > FORGET_AFTER_S:
            self.entries.clear()
            self._created, self._seen = created, 0
        if last > self._seen:
            await self._read_through(last)
        self._refreshed_at = now

    async def _read_through(self, last: int) -> None:
        complete = asyncio.Event()

        def on_made(waiting: int) -> None:
            if not waiting:
                complete.set()

        def on_message(message: StreamMessage) -> None:
            self._seen = message.sequence
            self._take(message)
            if not message.pending or message.sequence >= last:
                complete.set()

        reader = StreamReader(
            self._broker,
            self._stream,
            filters=lambda: [self._prefix + self._pattern],
            start=lambda: self._seen + 1,
            on_message=on_message,
            room=lambda: _ROOM,
            on_made=on_made,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(reader.run())
                await complete.wait()
                reading.cancel()
        except ExceptionGroup as group:
            # There was one task only, and what the credentials don't allow is for the caller.
            raise group.exceptions[0] from group
        self._seen = max(self._seen, last)

    def _take(self, message: StreamMessage) -> None:
        key = message.subject[len(self._prefix) :]
        if "KV-Operation" in message.headers or "Nats-Marker-Reason" in message.headers:
            self.entries.pop(key, None)
            return
        try:
            value = self._read(message.payload)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            log.error("the record %s of %s can't be read: %r", key, self._stream, error)
            return
        self.entries[key] = Copied(value, message.sequence, message.stored_at)
