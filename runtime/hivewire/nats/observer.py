"""Looks at a whole system: what waits for each agent type, for how long, and who lives.

One look costs the broker a few requests, a message for each record that changed since the one before, a request or two
for each type that has something waiting, and for each that has shards without a living owner. Only where something
waits for these are they counted, shard by shard.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.bucket_copy import BucketCopy, Copied
from hivewire.nats.dead_letter_counts import DeadLetterCounts
from hivewire.nats.event_stream import NO_MESSAGE, EventStream, StreamState
from hivewire.nats.lags import Lags
from hivewire.nats.observation import (
    STALE_AFTER_S,
    Observation,
    SortedShards,
    TypeObservation,
    WaitingShards,
    by_type_name,
    sort_shards,
    with_later_subscriptions,
)
from hivewire.nats.positions import Position
from hivewire.nats.registry import TypeRecord
from hivewire.nats.session import SessionRecord
from hivewire.nats.snapshot import Shard, by_type_token, shards_of
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.topology import stateless_filters

_AT_ONCE = 16
_OLDEST_TRIES = 8
_CHANGED_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A message of the event stream."""

    sequence: int
    subject: str
    stored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one look has in common for all types."""

    state: StreamState
    stale_below: int
    living: frozenset[str]
    lags: Lags

    @property
    def stale_before(self) -> datetime:
        return self.state.now - timedelta(seconds=STALE_AFTER_S)


class Observer:
    """Looks at a namespace. What one look has read makes the next one cheap."""

    def __init__(self, broker: Broker, subjects: Subjects, stream: EventStream) -> None:
        self._broker = broker
        self._subjects = subjects
        self._stream = stream
        self._types = BucketCopy(broker, subjects.registry_bucket, TypeRecord.from_json, pattern="*.type")
        self._sessions = BucketCopy(broker, subjects.leases_bucket, SessionRecord.from_json)
        self._positions = BucketCopy(broker, subjects.positions_bucket, Position.from_json)
        self._dead = DeadLetterCounts(broker, subjects)
        self._clear: dict[str, tuple[object, int | None]] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def observe(self, *, timeout: float) -> Observation:
        """Return how the system is now.

        Raises:
            TimeoutError: it could not be read within `timeout` seconds.
            BrokerUnavailableError: the broker doesn't answer.
            JetStreamError: it refuses, or there is no such namespace.
        """
        async with asyncio.timeout(timeout):
            return await self._observe()

    async def _observe(self) -> Observation:
        # Asked for first: what a record says of the end of the stream is not older then.
        state = await self._stream.look()
        stale_below = await self._stream.sequence_at(state.now - timedelta(seconds=STALE_AFTER_S))
        for copy in (self._types, self._sessions, self._positions):
            await copy.refresh()
        sessions = [each.value for each in self._sessions.entries.values()]
        look = _Look(
            state=state,
            stale_below=state.last + 1 if stale_below is None else stale_below,
            living=frozenset(each.session for each in sessions),
            lags=Lags(self._broker, self._subjects, last_sequence=state.last),
        )
        records = [each.value for each in self._types.entries.values() if each.value.shape is not None]
        records.sort(key=lambda record: record.name)
        dead = by_type_name(await self._dead.read(records), records)
        positions = by_type_token(self._positions.entries)
        owned: Counter[str] = Counter()
        types: list[TypeObservation] = []
        for start in range(0, len(records), _CHANGED_AT_ONCE):
            types += await asyncio.gather(
                *(
                    self._type(record, positions.get(type_token(record.name), {}), look, owned, dead)
                    for record in records[start : start + _CHANGED_AT_ONCE]
                )
            )
        return Observation(
            types=tuple(types),
            sessions=tuple(sorted(sessions, key=lambda each: (each.deployment, each.instance, each.session))),
            shards_owned=owned,
            dead_letters=dead,
        )

    async def _type(
        self,
        record: TypeRecord,
        positions: Mapping[str, Copied[Position]],
        look: _Look,
        owned: Counter[str],
        dead: Mapping[str, int],
    ) -> TypeObservation:
        assert record.shape is not None
        found = SortedShards()
        if record.shape.kind == "stateless":
            lag, oldest = await self._of_stateless(record, look)
        else:
            known = {name: each.value for name, each in positions.items()}
            found = sort_shards(
                shards_of(record, known, stream_created=look.state.created),
                living=look.living,
                written_at={name: each.written_at for name, each in positions.items()},
                stale_before=look.stale_before,
                stale_below=look.stale_below,
            )
            owned.update(found.owned)
            found.untold = [with_later_subscriptions(each, record) for each in found.untold]
            lag, oldest = await self._of_shards(record, found, look)
        return TypeObservation(
            name=record.name,
            kind=record.shape.kind,
            shards=record.shape.shards if record.shape.kind == "sharded" else None,
            shards_owned=len(found.owned),
            lag_messages=lag,
            oldest_event_s=None if oldest is None else max((look.state.now - oldest).total_seconds(), 0.0),
            dead_letters=dead.get(record.name, 0),
        )

    async def _of_stateless(self, record: TypeRecord, look: _Look) -> tuple[int, datetime | None]:
        told = await look.lags.consumer(record.name)
        if told is None or not told[0]:
            return 0, None
        lag, finished_through = told
        filters = stateless_filters(self._subjects, record.name, record.subscriptions.filters)
        found = await self._first_of(filters, after=finished_through)
        return lag, None if found is None else found.stored_at

    async def _of_shards(self, record: TypeRecord, found: SortedShards, look: _Look) -> tuple[int, datetime | None]:
        lagging: list[Shard] = []
        total = 0
        for shard in found.told:
            assert shard.position is not None
            lag = shard.position.lag
            if shard.position.parked:
                # Its owner counts a parked key as one.
                lag += await look.lags.of_parked(record.name, shard.position) - len(shard.position.parked)
            if lag > 0:
                total += lag
                lagging.append(shard)
        for shards, lag in await self._asked(record, found.untold, look):
            total += lag
            lagging += shards
        return total, await self._oldest(record, lagging) if lagging else None

    async def _asked(
        self, record: TypeRecord, shards: Sequence[Shard], look: _Look
    ) -> list[tuple[Sequence[Shard], int]]:
        """Return those shards, in groups, for which something waits, and how much, as the server has it."""
        begin = WaitingShards(shards, self._subjects).first_needed
        if begin is None:
            self._clear.pop(record.name, None)
            return []
        # As long as nobody writes their positions, what was found to be without an event for them stays so.
        state = (look.state.created, [(shard.name, shard.position) for shard in shards])
        known, clear_through = self._clear.get(record.name, (None, 0))
        if known != state:
            clear_through = 0
        if clear_through is not None:
            after = max(begin - 1, clear_through)
            filters = _filters(record, shards, self._subjects)
            if after >= look.state.last or await self._first_of(filters, after=after) is None:
                self._clear[record.name] = (state, look.state.last)
                return []
        lagging = [(group, count) for group, count in await look.lags.of_groups(shards) if count]
        # None: something waits, so the next look counts at once.
        self._clear[record.name] = (state, None if lagging else look.state.last)
        return lagging

    async def _oldest(self, record: TypeRecord, shards: Sequence[Shard]) -> datetime | None:
        """Return when the oldest event was stored that waits for one of some shards, or a little before that."""
        waiting = WaitingShards(shards, self._subjects)
        begin = waiting.first_needed
        if begin is None:
            return None
        # What the owner has read and not finished is just there; what nobody has read has to be looked for.
        found = await self._message({"seq": begin})
        if found is not None and waiting.has(found.subject, found.sequence):
            return found.stored_at
        filters = _filters(record, shards, self._subjects)
        after, last = begin - 1, None
        for _ in range(_OLDEST_TRIES):
            found = await self._first_of(filters, after=after)
            if found is None:
                break
            last, after = found.stored_at, found.sequence
            if waiting.has(found.subject, found.sequence):
                break
        return last

    async def _first_of(self, filters: Sequence[str], *, after: int) -> _Found | None:
        found = await asyncio.gather(
            *(self._message({"seq": after + 1, "next_by_subj": subject}) for subject in filters)
        )
        return min((each for each in found if each is not None), key=lambda each: each.sequence, default=None)

    async def _message(self, wanted: Mapping[str, object]) -> _Found | None:
        try:
            async with self._room:
                answer = await self._broker.api(f"STREAM.MSG.GET.{self._stream.name}", wanted)
        except JetStreamError as error:
            if error.code != NO_MESSAGE:
                raise
            return None
        stored = answer["message"]
        return _Found(
            sequence=int(stored["seq"]),
            subject=str(stored["subject"]),
            stored_at=datetime.fromisoformat(stored["time"]),
        )


def _filters(record: TypeRecord, shards: Sequence[Shard], subjects: Subjects) -> list[str]:
    """Return what takes all that is for any shard of a type: one answer is enough when there is nothing at all."""
    topics = {topic for shard in shards if shard.position is not None for topic in shard.position.subscriptions.filters}
    return stateless_filters(subjects, record.name, sorted(topics, key=lambda each: each.content_id))
