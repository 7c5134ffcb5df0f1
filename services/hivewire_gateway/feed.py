"""Hands the events of the namespace to any number of clients, and reads the stream once for all of them.

New events come through one tap, which is open while there are clients. What a client has missed is read for it in
batches, a few clients at a time, up to where the tap is; what comes meanwhile is held back for it. So it misses nothing
and gets nothing twice. Nobody waits for a client: one that does not take its events is cut off, and comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import chain

from hivewire import BrokerUnavailableError
from hivewire.relay import EventTap, PassedEvent, RelayRuntime, TopicFilter
from hivewire_gateway.event_documents import EventPosition, event_document
from hivewire_gateway.feed_client import KEEPS_UP_S, FeedClient
from hivewire_gateway.out_settings import EventStreamSettings
from hivewire_gateway.outlets import Outlet
from hivewire_gateway.problems import Problem
from hivewire_gateway.sse import server_sent_event

log = logging.getLogger("hivewire.gateway")

_EVERYTHING = TopicFilter(kind="prefix", value="")
_BATCH_EVENTS = 200
_BATCH_BYTES = 1024 * 1024
_PAUSE_S = 0.25
_STREAM_CHANGE_S = 10.0


class Feed:
    """The clients of one gateway process that read events."""

    def __init__(self, relay: RelayRuntime, settings: EventStreamSettings) -> None:
        self._relay = relay
        self._settings = settings
        self._clients: set[FeedClient] = set()
        self._exact: dict[str, set[FeedClient]] = {}
        self._prefixes: set[FeedClient] = set()
        self._event_bytes = 1024
        self._looking_again: asyncio.TimerHandle | None = None
        self._tap: EventTap | None = None
        self._changing = asyncio.Lock()
        self._catching_up = asyncio.Semaphore(settings.catch_ups_at_once)

    def __len__(self) -> int:
        return len(self._clients)

    def new_outlet(self) -> Outlet:
        """Return an outlet for `follow`."""
        return Outlet(on_take=self._on_take)

    async def follow(
        self,
        outlet: Outlet,
        topics: TopicFilter,
        sources: frozenset[str],
        *,
        after: EventPosition | None,
        from_start: bool,
    ) -> None:
        """Put events into an outlet until it has ended: those after a position, or all, or what comes from now on.

        Raises:
            Problem: the broker is away.
        """
        client = FeedClient(outlet, topics, sources, self._settings)
        self._add(client)
        try:
            try:
                tap = await self._join(client)
                await self._find_place(client, tap, after, from_start=from_start)
            except BrokerUnavailableError as error:
                raise Problem(503, "The gateway can't read events now.", headers={"Retry-After": "2"}) from error
            await self._catch_up(client, tap)
            await outlet.until_ended()
        finally:
            self._remove(client)

    async def _join(self, client: FeedClient) -> EventTap:
        """See that what the client wants is read."""
        async with self._changing:
            if self._tap is None:
                self._tap = self._relay.tap_events(
                    on_event=self._on_event, on_other_stream=self._on_other_stream, room=self._room
                )
            tap = self._tap
            if not tap.is_open:
                await tap.open(self._wanted())
            elif not tap.covers(client.topics):
                await tap.advance()
                tap.change(self._wanted())
            return tap

    async def _find_place(
        self, client: FeedClient, tap: EventTap, after: EventPosition | None, *, from_start: bool
    ) -> None:
        place = await tap.place()
        deadline = asyncio.get_running_loop().time() + _STREAM_CHANGE_S
        # Which stream it is the tap finds out by itself, and soon.
        while place.name != tap.stream_name:
            if asyncio.get_running_loop().time() > deadline:
                raise BrokerUnavailableError("the event stream changes all the time")
            await tap.advance()
            await asyncio.sleep(_PAUSE_S)
            place = await tap.place()
        if after is None:
            client.begin_in(place.name, place.first - 1 if from_start else place.last)
        elif after.stream != place.name:
            detail = "The event stream was made anew since this client was here."
            client.begin_in(place.name, place.first - 1, reason="other-stream", detail=detail)
        elif after.sequence > place.last:
            detail = "The event stream has no such event: events may be missing."
            client.begin_in(place.name, place.last, reason="unknown-position", detail=detail)
        elif after.sequence + 1 < place.first:
            detail = "Events since this client was here may have been removed by the retention."
            client.begin_in(place.name, place.first - 1, reason="expired", detail=detail)
        else:
            client.begin_in(place.name, after.sequence)

    async def _catch_up(self, client: FeedClient, tap: EventTap) -> None:
        """Read what the client has missed; then it gets what comes."""
        filters = tap.past_filters(client.topics, client.sources)
        while not client.outlet.ended:
            target = tap.cursor
            client.hold()
            try:
                await self._read_past(client, tap, filters, target)
            except BrokerUnavailableError as error:
                log.info("a client that reads past events waits for the broker: %s", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            if client.release():
                return

    async def _read_past(self, client: FeedClient, tap: EventTap, filters: Sequence[str], target: int) -> None:
        restarts = client.restarts
        while client.after < target and not client.outlet.ended:
            async with self._catching_up:
                following = await tap.next_after(client.after, filters)
                if client.restarts != restarts:
                    return
                if following is None or following > target:
                    client.after = target
                    return
                past = await tap.past(following - 1, filters, limit=_BATCH_EVENTS, max_bytes=_BATCH_BYTES)
            for event in past.events:
                if client.restarts != restarts or event.sequence > target:
                    break
                if client.wants(event):
                    client.hand_on(event.sequence, _piece(event, client.stream))
                    if not await client.outlet.room(self._settings.max_waiting_events // 2):
                        return
            if client.restarts != restarts:
                return
            client.after = max(client.after, min(past.last, target))
            if past.last < following:
                # The reader's server does not have yet what its leader has.
                await asyncio.sleep(_PAUSE_S)

    def _add(self, client: FeedClient) -> None:
        self._clients.add(client)
        if client.topics.kind == "exact":
            self._exact.setdefault(client.topics.value, set()).add(client)
        else:
            self._prefixes.add(client)

    def _remove(self, client: FeedClient) -> None:
        self._clients.discard(client)
        self._prefixes.discard(client)
        same = self._exact.get(client.topics.value, set())
        same.discard(client)
        if not same:
            self._exact.pop(client.topics.value, None)
        if self._tap is not None:
            self._tap.wake() if self._clients else self._tap.close()

    def _wanted(self) -> list[TopicFilter]:
        wanted = {client.topics for client in self._clients}
        return list(wanted) if len(wanted) <= self._settings.max_filters else [_EVERYTHING]

    def _on_event(self, event: PassedEvent) -> None:
        assert self._tap is not None
        piece: bytes | None = None
        for client in chain(self._exact.get(event.topic.type, ()), self._prefixes):
            if client.wants(event):
                if piece is None:
                    piece = _piece(event, self._tap.stream_name)
                    # Nearly the largest of late.
                    self._event_bytes = max(self._event_bytes - self._event_bytes // 16, len(piece))
                client.take(event.sequence, piece)

    def _on_other_stream(self, stream: str) -> None:
        for client in self._clients:
            client.restart_in(stream)

    def _room(self) -> int:
        """Return how much the tap may read: as much as all clients would take that keep up. One that stands still holds
        up the others for a moment at the most."""
        rooms = [client.room(self._event_bytes) for client in self._clients if client.is_live and client.keeps_up]
        room = min(rooms, default=self._settings.max_waiting_events)
        if room <= 0 and self._looking_again is None:
            self._looking_again = asyncio.get_running_loop().call_later(KEEPS_UP_S, self._look_again)
        return room

    def _look_again(self) -> None:
        self._looking_again = None
        self._on_take()

    def _on_take(self) -> None:
        if self._tap is not None:
            self._tap.wake()


def _piece(event: PassedEvent, stream: str) -> bytes:
    position = EventPosition(stream=stream, sequence=event.sequence)
    return server_sent_event(event_document(event), id=str(position))
