"""Reads the events of one parked key, from where the shard's reader left them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hivewire.nats.broker import Broker
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope


class KeyReader:
    """One consumer for one key of a type: its events of all topics, its durable messages, and the type's markers.

    Args:
        start: Asked for the first sequence each time a consumer is made.
        verify: Called after each time a consumer was made; it raises when that must not be read.
        on_message: Called with each message, in the order of the stream.
        on_made: Called with how many messages wait, each time a consumer was made.
        room: How many messages more the key takes now.
    """

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        agent_type: str,
        key: str,
        *,
        start: Callable[[], int],
        verify: Callable[[], Awaitable[None]],
        on_message: Callable[[StreamMessage], None],
        on_made: Callable[[int], None],
        room: Callable[[], int],
    ) -> None:
        self._stopped = False
        self._hand_over = on_message
        self._reader = StreamReader(
            broker,
            subjects.events_stream,
            filters=lambda: [*subjects.key_filters(agent_type, key), subjects.marker(agent_type)],
            start=start,
            verify=verify,
            on_message=self._on_message,
            room=room,
            on_made=on_made,
        )
        self._reading: asyncio.Task[None] | None = None

    def start(self, tasks: TaskScope) -> None:
        self._reading = tasks.start(self._reader.run(), name="hivewire: key reader")

    def wake(self) -> None:
        self._reader.wake()

    def remake(self) -> None:
        self._reader.remake()

    def stop(self) -> None:
        """Hand over nothing more."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()

    def _on_message(self, message: StreamMessage) -> None:
        if not self._stopped:
            self._hand_over(message)
