"""Key-value buckets: reads by the leader, writes by compare-and-set, and a live view of many keys.

A key that was deleted or that expired leaves a marker behind, on which a later write has to be based. An `Entry`
without a value keeps that revision, so a key can be made again at once.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass

from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.stream_reader import StreamMessage, StreamReader

_NO_MESSAGE = 10037
WRONG_LAST_SEQUENCE = (10071, 10164)
_VIEW_ROOM = 1_000


class WriteConflictError(Exception):
    """Somebody else wrote the key since it was read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value, None when there is none, and the revision that the next write must name."""

    value: bytes | None
    revision: int


class Bucket:
    """One bucket. Every write names the revision that it replaces, 0 for a key that never was.

    Args:
        longest_pause_s: How soon a write is tried again, at the latest, while the bucket has no leader.
    """

    def __init__(self, broker: Broker, name: str, *, longest_pause_s: float = 0.5) -> None:
        self._broker = broker
        self._longest_pause_s = longest_pause_s
        self.name = name
        self.stream = f"KV_{name}"

    async def get(self, key: str, *, timeout: float = 10.0) -> Entry:
        """Read a key from the stream's leader, so a write of this process is seen.

        Raises:
            BrokerUnavailableError: nobody answered in time.
        """
        try:
            answer = await self._broker.api(
                f"STREAM.MSG.GET.{self.stream}", {"last_by_subj": self._subject(key)}, timeout=timeout
            )
        except JetStreamError as error:
            if error.code == _NO_MESSAGE:
                return Entry(None, 0)
            raise
        stored = answer["message"]
        headers = base64.b64decode(stored.get("hdrs", ""))
        deleted = b"KV-Operation" in headers or b"Nats-Marker-Reason" in headers
        return Entry(None if deleted else base64.b64decode(stored.get("data", "")), int(stored["seq"]))

    async def put(
        self, key: str, value: bytes, *, revision: int, ttl_s: int | None = None, timeout: float = 10.0
    ) -> int:
        """Write a key that is still at `revision`; return the new revision.

        A value should say who wrote it: after a lost acknowledgement the same bytes are taken as this write's own.

        Raises:
            WriteConflictError: the key is at another revision.
            BrokerUnavailableError: it was not acknowledged in time; whether it was written is unknown.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        if ttl_s is not None:
            headers["Nats-TTL"] = f"{ttl_s}s"
        try:
            stored = await self._broker.store(
                self._subject(key), value, headers=headers, timeout=timeout, longest_pause_s=self._longest_pause_s
            )
            return stored.sequence
        except JetStreamError as error:
            if error.code not in WRONG_LAST_SEQUENCE:
                raise
        entry = await self.get(key, timeout=timeout)
        if entry.value == value:
            return entry.revision
        raise WriteConflictError(f"{self.name} {key}: expected revision {revision}, found {entry.revision}")

    async def delete(self, key: str, *, revision: int, ttl_s: int | None = None, timeout: float = 10.0) -> None:
        """Delete a key that is still at `revision`; the marker that says so goes away after `ttl_s` seconds.

        Raises:
            WriteConflictError: the key is at another revision.
            BrokerUnavailableError: as for `put`.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision), "KV-Operation": "DEL"}
        if ttl_s is not None:
            headers["Nats-TTL"] = f"{ttl_s}s"
        try:
            await self._broker.store(self._subject(key), b"", headers=headers, timeout=timeout)
        except JetStreamError as error:
            if error.code not in WRONG_LAST_SEQUENCE:
                raise
            if (await self.get(key, timeout=timeout)).value is not None:
                raise WriteConflictError(f"{self.name} {key}: expected revision {revision}") from error

    async def entries(self, pattern: str = ">", *, timeout: float = 10.0) -> dict[str, Entry]:
        """Read all keys that match once."""
        view = BucketView(self, pattern)
        reading = asyncio.create_task(view.run())
        try:
            async with asyncio.timeout(timeout):
                await view.ready.wait()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return dict(view.entries)

    async def keys(self, pattern: str = ">", *, timeout: float = 10.0) -> list[str]:
        """Return the names of all keys that match, sorted, those that were deleted included."""
        keys: list[str] = []
        while True:
            answer = await self._broker.api(
                f"STREAM.INFO.{self.stream}",
                {"subjects_filter": self._subject(pattern), "offset": len(keys)},
                timeout=timeout,
            )
            page = answer["state"].get("subjects") or {}
            keys += [subject[len(self._subject("")) :] for subject in page]
            if not page or len(keys) >= int(answer.get("total", 0)):
                return sorted(keys)

    def _subject(self, key: str) -> str:
        return f"$KV.{self.name}.{key}"


class BucketView:
    """The live keys of a bucket that match a pattern, kept up to date while `run` runs.

    `ready` is set once the view was complete. After a break the view is read again as a whole, so a key whose end was
    missed goes away too. `on_change` is called with each key that came, changed, or went.
    """

    def __init__(
        self, bucket: Bucket, pattern: str = ">", *, on_change: Callable[[str, Entry], None] | None = None
    ) -> None:
        self._prefix = f"$KV.{bucket.name}."
        self._on_change = on_change
        self._reader = StreamReader(
            bucket._broker,
            bucket.stream,
            filters=lambda: [self._prefix + pattern],
            start=lambda: None,
            on_message=self._on_message,
            room=lambda: _VIEW_ROOM,
            on_made=self._on_made,
        )
        self._unseen: set[str] = set()
        self._missing = 0
        self.entries: dict[str, Entry] = {}
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Keep the view until cancelled."""
        await self._reader.run()

    def _on_made(self, waiting: int) -> None:
        self._unseen = set(self.entries)
        self._missing = waiting
        if not waiting:
            self._complete()

    def _on_message(self, message: StreamMessage) -> None:
        key = message.subject[len(self._prefix) :]
        gone = "KV-Operation" in message.headers or "Nats-Marker-Reason" in message.headers
        self._unseen.discard(key)
        self._apply(key, Entry(None if gone else message.payload, message.sequence))
        if self._missing:
            self._missing -= 1
            if not self._missing:
                self._complete()

    def _apply(self, key: str, entry: Entry) -> None:
        if entry.value is None:
            if self.entries.pop(key, None) is None:
                return
        else:
            self.entries[key] = entry
        if self._on_change is not None:
            self._on_change(key, entry)

    def _complete(self) -> None:
        for key in self._unseen:
            self._apply(key, Entry(None, 0))
        self._unseen = set()
        self.ready.set()
