"""Reads the events of a shard's parked keys, a few keys at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from hivewire.nats.admitted import KeyWindows
from hivewire.nats.broker import Broker
from hivewire.nats.event_turns import EventTurns, IncomingEvent
from hivewire.nats.key_reader import KeyReader
from hivewire.nats.parking import ParkedKeys
from hivewire.nats.registry import read_marker
from hivewire.nats.stream_reader import StreamMessage
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope

KEY_READERS: Final = 8
"""How many keys of one shard are read apart at once."""


class ParkedReading:
    """The readers of one shard's parked keys, until `stop`.

    Args:
        admit: Called with each event that is to be handled.
        may_read: Asked before each message whether this process still holds its session.
        verify: Called after each time a consumer was made; it raises when that must not be read.
    """

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        events: EventTurns,
        tasks: TaskScope,
        *,
        agent_type: str,
        parked: ParkedKeys,
        windows: KeyWindows,
        admit: Callable[[IncomingEvent], None],
        may_read: Callable[[], bool],
        verify: Callable[[], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._events = events
        self._tasks = tasks
        self._agent_type = agent_type
        self._marker = subjects.marker(agent_type)
        self._parked = parked
        self._windows = windows
        self._admit = admit
        self._may_read = may_read
        self._verify = verify
        self._readers: dict[str, KeyReader] = {}

    def go_on(self) -> None:
        """Read the keys that have room for more events."""
        for key in self._parked.to_read:
            reader = self._readers.get(key)
            if reader is not None:
                reader.wake()
            elif self._windows.wants(key) and (len(self._readers) < KEY_READERS or self._stop_full()):
                self._read(key)

    def remake(self, key: str) -> None:
        """Read a key anew, from where its parked events begin now."""
        if key in self._readers:
            self._readers[key].remake()

    def stop(self) -> None:
        for reader in self._readers.values():
            reader.stop()
        self._readers = {}

    def _stop_full(self) -> bool:
        """Stop the reader of a key that takes nothing more for now, so that another key has one."""
        for key in self._readers:
            if self._windows.room(key) <= 0:
                self._readers.pop(key).stop()
                return True
        return False

    def _read(self, key: str) -> None:
        reader = self._readers[key] = KeyReader(
            self._broker,
            self._subjects,
            self._agent_type,
            key,
            start=lambda: self._parked.start_of(key),
            verify=self._verify,
            on_message=lambda message: self._on_message(key, message),
            on_made=lambda waiting: self._after_message(key, waiting),
            room=lambda: self._windows.room(key),
        )
        reader.start(self._tasks)

    def _on_message(self, key: str, message: StreamMessage) -> None:
        if not self._may_read():
            self._readers[key].remake()
            return
        sequence = message.sequence
        if message.subject == self._marker:
            change = read_marker(message.payload)
            if change is not None:
                self._parked.read_marker(key, sequence, change)
        else:
            subscriptions = self._parked.subscriptions_of(key, sequence)
            incoming = self._events.recipient(message, self._agent_type, subscriptions)
            if incoming is None or incoming.key != key:
                self._parked.skip(key, sequence)
            elif self._parked.read(key, sequence):
                self._admit(incoming)
        self._after_message(key, message.pending)

    def _after_message(self, key: str, pending: int) -> None:
        self._parked.after(key, pending=pending)
        if key not in self._parked:
            self._readers.pop(key).stop()
