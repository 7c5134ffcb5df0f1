"""One client of the feed: which events it wants, which it has, and what waits for it."""

from __future__ import annotations

import asyncio

from hivewire.relay import PassedEvent, TopicFilter
from hivewire_gateway.event_documents import EventPosition
from hivewire_gateway.message_bodies import compact_json
from hivewire_gateway.out_settings import EventStreamSettings
from hivewire_gateway.outlets import Outlet
from hivewire_gateway.sse import server_sent_event

KEEPS_UP_S = 1.0
"""A client keeps up if it takes what waits for it within so many seconds."""


class FeedClient:
    """Gets events in order, each once.

    Invariant: what it wants with a sequence up to `after` was handed on, and nothing above it was. While it reads the
    past, new events are held back; when they get too many they are let go, and are read as past ones.

    Args:
        sources: The topic sources whose events it wants; none stand for all.
    """

    __slots__ = ("_held", "_max_held", "_settings", "after", "outlet", "restarts", "sources", "stream", "topics")

    def __init__(
        self, outlet: Outlet, topics: TopicFilter, sources: frozenset[str], settings: EventStreamSettings
    ) -> None:
        self.outlet = outlet
        self.topics = topics
        self.sources = sources
        self.stream = ""
        self.after = 0
        self.restarts = 0
        self._settings = settings
        # With what it reads of the past, there must be room for it in the outlet.
        self._max_held = settings.max_waiting_events // 4
        # None: nothing is held, and new events are handed on.
        self._held: list[tuple[int, bytes]] | None = []

    @property
    def position(self) -> EventPosition:
        return EventPosition(stream=self.stream, sequence=self.after)

    def wants(self, event: PassedEvent) -> bool:
        return self.topics.matches(event.topic.type) and (not self.sources or event.topic.source in self.sources)

    def hold(self) -> None:
        """Hold back what comes from now on."""
        self._held = []

    def release(self) -> bool:
        """Hand on what was held back, and from now on what comes. False: too much of it came, so that it has to be read
        from the stream."""
        held, self._held = self._held, None
        if held is None:
            return True
        if len(held) > self._max_held:
            return False
        for sequence, piece in held:
            self.hand_on(sequence, piece)
        return True

    def take(self, sequence: int, piece: bytes) -> None:
        """Take a new event. A client that does not keep up is cut off: it comes back to where it was."""
        if self._held is not None:
            if len(self._held) <= self._max_held:
                self._held.append((sequence, piece))
            return
        outlet, settings = self.outlet, self._settings
        # How large events are is known only when they are there, so of one that keeps up more may wait for a moment.
        too_large = outlet.waiting_bytes + len(piece) > settings.max_waiting_bytes and not self.keeps_up
        if outlet.waiting >= settings.max_waiting_events or (outlet.waiting and too_large):
            outlet.clear()
            outlet.end()
            return
        self.hand_on(sequence, piece)

    def hand_on(self, sequence: int, piece: bytes) -> None:
        if sequence > self.after:
            self.after = sequence
            self.outlet.push(piece)

    def begin_in(self, stream: str, after: int, *, reason: str = "", detail: str = "") -> None:
        """Go on from a place in a stream, and tell the client, so that it can come back there before the first event.
        With a reason there may be events that it has missed."""
        self.stream, self.after = stream, after
        told = compact_json({"reason": reason, "detail": detail}) if reason else "{}"
        self.outlet.push(server_sent_event(told, event="reset" if reason else "begin", id=str(self.position)))

    def restart_in(self, stream: str) -> None:
        """Begin anew with a stream that has taken the place of the one before. All of it is still to come."""
        self.restarts += 1
        if self._held is not None:
            self._held = []
        self.begin_in(stream, 0, reason="other-stream", detail="The event stream was made anew.")

    @property
    def keeps_up(self) -> bool:
        """Whether it takes what waits for it as fast as it can be expected to."""
        return not self.outlet.waiting or asyncio.get_running_loop().time() - self.outlet.since < KEEPS_UP_S

    def room(self, event_bytes: int) -> int:
        """Return how many events more, of so many bytes, it would take now."""
        events = self._settings.max_waiting_events - self.outlet.waiting
        return min(events, (self._settings.max_waiting_bytes - self.outlet.waiting_bytes) // event_bytes)

    @property
    def is_live(self) -> bool:
        """Whether new events are handed on to it at once."""
        return self._held is None
