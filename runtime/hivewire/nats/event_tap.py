"""Reads published events for many readers at once, through one consumer of the event stream.

What is new comes through `on_event`, in the order of the stream, while the tap is open. Everything that its filters
match and that has a greater sequence than `cursor` is still to come; so whoever wants the events after a sequence takes
those up to the cursor from `past`, and the others as they come. Filters may change at any time: the cursor stays, and
means the same of the new ones.

A stream that was made anew has another name, and its sequences begin again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from hivewire.exceptions import BrokerUnavailableError
from hivewire.model.topics import TopicId
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.cloud_events import read_cloud_event
from hivewire.nats.event_stream import EventStream, StreamState
from hivewire.nats.header_text import EnvelopeError
from hivewire.nats.stream_batch import read_batch
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.topic_filters import TopicFilter, minimal_tails

log = logging.getLogger("hivewire.tap")

_NAME_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedEvent:
    """A stored event. `attributes` are those of the CloudEvent by their names, the required ones included, without
    `datacontenttype`."""

    sequence: int
    stored_at: datetime
    topic: TopicId
    attributes: Mapping[str, str]
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlace:
    """Where the event stream begins and ends, and its name, which no other stream has."""

    name: str
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvents:
    """Some stored events, and the sequence up to which they are all that there was, what can't be read apart."""

    events: Sequence[PassedEvent]
    last: int


class EventTap:
    """Reads the event stream of a namespace.

    Args:
        on_event: Called with each new event. It must not raise.
        on_other_stream: Called when another stream has taken the place of the one that is read; all of it is still to
            come.
        room: How many events more `on_event` would take now; call `wake` when it has grown.
    """

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        stream: EventStream,
        tasks: TaskScope,
        *,
        on_event: Callable[[PassedEvent], None],
        on_other_stream: Callable[[str], None],
        room: Callable[[], int],
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._stream = stream
        self._tasks = tasks
        self._on_event = on_event
        self._on_other_stream = on_other_stream
        self._room = room
        self._topics: list[TopicFilter] = []
        self._filters: list[str] = []
        self._generation = 0
        self._created = ""
        self._reader: StreamReader | None = None
        self._reading: asyncio.Task[None] | None = None
        self.cursor = 0

    @property
    def is_open(self) -> bool:
        return self._reading is not None

    @property
    def stream_name(self) -> str:
        """The name of the stream that is read."""
        return _name_of(self._created)

    async def place(self) -> StreamPlace:
        """Look where the stream is.

        Raises:
            BrokerUnavailableError: nobody answers, or there is no stream at the moment.
        """
        state = await self._look()
        return StreamPlace(name=_name_of(state.created), first=state.first, last=state.last)

    async def open(self, topics: Sequence[TopicFilter]) -> None:
        """Begin to read, with what is published after this call.

        Raises:
            BrokerUnavailableError: as `place`.
            ValueError: a filter is too long for a subject.
        """
        subjects = self._stored(minimal_tails(topics))
        state = await self._look()
        self._topics, self._filters = list(topics), subjects
        self._created, self.cursor = state.created, state.last
        self._generation += 1
        self._reader = StreamReader(
            self._broker,
            self._stream.name,
            filters=lambda: self._filters,
            start=lambda: self.cursor + 1,
            on_message=self._take,
            room=self._room,
            verify=self._verify,
            on_failed=self._doubt,
            tidy=True,
        )
        self._reading = self._start(self._reader, "hivewire: event tap")

    def covers(self, topics: TopicFilter) -> bool:
        """Tell whether all that a filter matches is read already."""
        return minimal_tails([*self._topics, topics]) == minimal_tails(self._topics)

    def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
        self._reader = self._reading = None
        self._generation += 1

    def change(self, topics: Sequence[TopicFilter]) -> None:
        """Read what other filters match, after the cursor.

        Raises:
            ValueError: as `open`.
        """
        subjects = self._stored(minimal_tails(topics))
        if subjects != self._filters and self._reader is not None:
            self._topics, self._filters = list(topics), subjects
            self._generation += 1
            self._reader.change_filters()

    def wake(self) -> None:
        """Look at the room again."""
        if self._reader is not None and self._reader.starved:
            self._reader.wake()

    async def advance(self) -> None:
        """Move the cursor to the end of the stream, if everything before was handed over: with filters that match
        little it lags behind, and others would be read from there."""
        reader, generation = self._reader, self._generation
        if reader is None:
            return
        try:
            state = await self._stream.look()
            if state.created != self._created:
                reader.remake()
                return
            handed_over = await reader.is_drained() and await self._stream.holds_none(
                self._filters, after=self.cursor, seen=state
            )
        except (JetStreamError, BrokerUnavailableError) as error:
            log.debug("where the reader of events is could not be asked: %s", error)
            return
        if handed_over and generation == self._generation:
            self.cursor = max(self.cursor, state.last)

    async def next_after(self, after: int, filters: Sequence[str]) -> int | None:
        """Return the first sequence after another one that is of some filters of `past_filters`; None: there is none by
        now.

        Raises:
            BrokerUnavailableError: as `place`.
        """
        try:
            return await self._stream.next_of(filters, after=after)
        except JetStreamError as error:
            raise self._unavailable(error) from error

    def past_filters(self, topics: TopicFilter, sources: Iterable[str] = ()) -> list[str]:
        """Return what `past` reads for one filter on topic types, and some sources, or all.

        Raises:
            ValueError: the filter is too long for a subject.
        """
        tails = [topics.tail()]
        chosen = sorted(set(sources))
        if not chosen:
            return self._stored(tails)
        return [
            subject for source in chosen for subject in self._subjects.stored_event_filters_of_source(tails, source)
        ]

    async def past(self, after: int, filters: Sequence[str], *, limit: int, max_bytes: int) -> PastEvents:
        """Return the first events after a sequence, at most `limit`, and hardly more than `max_bytes` of data. It makes
        a consumer and deletes it: callers see to it that there are never many at a time.

        Raises:
            BrokerUnavailableError: as `place`.
        """
        found = await read_batch(
            self._broker,
            self._stream.name,
            self._tasks,
            filters=filters,
            start=after + 1,
            limit=limit,
            max_bytes=max_bytes,
        )
        events = [event for event in map(_read, found) if event is not None]
        return PastEvents(events=events, last=found[-1].sequence if found else after)

    def _start(self, reader: StreamReader, name: str) -> asyncio.Task[None]:
        if self._tasks.closing:
            raise BrokerUnavailableError("The runtime stops")
        return self._tasks.start(reader.run(), name=name)

    def _stored(self, tails: Sequence[str]) -> list[str]:
        return self._subjects.stored_event_filters(tails, 0, 1)

    def _take(self, message: StreamMessage) -> None:
        self.cursor = max(self.cursor, message.sequence)
        event = _read(message)
        if event is not None:
            self._on_event(event)

    async def _verify(self) -> None:
        """The consumer that was made is of the stream that is there now, which may be another one."""
        state = await self._stream.look()
        if state.created != self._created:
            log.warning("the event stream is another one now; it is read from its begin")
            self._created, self.cursor = state.created, 0
            self._generation += 1
            if self._reader is not None:
                self._reader.remake()
            self._on_other_stream(self.stream_name)

    def _doubt(self, error: Exception) -> None:
        self._stream.doubted.set()

    async def _look(self) -> StreamState:
        try:
            return await self._stream.look()
        except JetStreamError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: JetStreamError) -> BrokerUnavailableError:
        self._stream.doubted.set()
        return BrokerUnavailableError(f"The event stream can't be read: {error}")


def _name_of(created: str) -> str:
    return sha256(created.encode()).hexdigest()[:_NAME_DIGITS]


def _read(message: StreamMessage) -> PassedEvent | None:
    try:
        event = read_cloud_event(message.headers, message.payload)
        attributes = {
            name[3:]: value for name, value in event.attributes.items() if name.startswith("ce-") and name[3:].isalnum()
        }
        attributes.pop("datacontenttype", None)
        topic = TopicId(attributes["type"], attributes["source"])
    except (EnvelopeError, ValueError) as error:
        log.warning("event %d can't be read, and is passed over: %s", message.sequence, error)
        return None
    return PassedEvent(
        sequence=message.sequence,
        stored_at=message.stored_at,
        topic=topic,
        attributes=attributes,
        content_type=event.content_type,
        data=event.data,
    )
