"""Removes from the event stream what every agent type has finished.

One process of a namespace does it; a second one at the same time would do no harm. What may go is decided in
`retention`. Shards that nobody owns have nobody to move their positions, so here those for which nothing waits follow
the end of the stream too.

An instance's process may never come back. What waits for it is kept until its position was not written for the
retention, and at least a day; from then on only as long as the retention says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hivewire.exceptions import HivewireError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import Bucket, Entry, WriteConflictError
from hivewire.nats.event_stream import EventStream, StreamState
from hivewire.nats.lag_probe import count_waiting
from hivewire.nats.positions import Position
from hivewire.nats.registry import TypeRecord
from hivewire.nats.retention import Need, goal_of, needs_of, purge_below
from hivewire.nats.shard_scope import reader_filters
from hivewire.nats.subjects import Subjects
from hivewire.nats.topology import stateless_filters

log = logging.getLogger("hivewire.janitor")

EVERY_S = 30.0
ABSENCE_S = 24 * 3600.0
"""How long an instance's process may be away, at least, before its unread events are kept no longer than others."""

_LONGEST_S = 100 * 365 * 24 * 3600.0
_CONSUMER_NOT_FOUND = 10014
_TIMEOUT_S = 15.0


class Janitor:
    """Does `step` every half minute while `run` runs and this process is the one to do it.

    Args:
        is_alive: Tells whether a session lives.
    """

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        stream: EventStream,
        *,
        retention_s: float,
        is_alive: Callable[[str], bool],
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._stream = stream
        self._positions = Bucket(broker, subjects.positions_bucket)
        self._registry = Bucket(broker, subjects.registry_bucket)
        self._retention = timedelta(seconds=min(retention_s, _LONGEST_S))
        self._absence = max(self._retention, timedelta(seconds=ABSENCE_S))
        self._is_alive = is_alive

    async def run(self, elected: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if not elected():
                continue
            try:
                await self.step()
            except (HivewireError, JetStreamError, TimeoutError) as error:
                log.warning("nothing is removed from %s for now: %s", self._stream.name, error)
            except Exception:
                # Whatever is wrong here, the stream only grows meanwhile; messages go on.
                log.exception("nothing is removed from %s for now", self._stream.name)

    async def step(self) -> None:
        """Remove what may go now.

        Raises:
            HivewireError, JetStreamError: the broker doesn't answer or refuses, or a record can't be read.
        """
        stream = self._stream
        state = await stream.look()
        if state.created != stream.created:
            return
        aged = None if state.crowded else await stream.sequence_at(state.now - self._retention)
        goal = goal_of(state, aged)
        if goal <= state.first:
            return
        needs = [await self._settled(need, entry, state, goal) for need, entry in await self._needs(state)]
        below = purge_below(state, goal, needs)
        if state.crowded:
            self._report(state, needs, below)
        # A purge can't name the stream that it is for; this leaves only a moment in which another could take its place.
        if below is not None and (await stream.look()).created == state.created:
            await self._broker.api(f"STREAM.PURGE.{stream.name}", {"seq": below}, timeout=_TIMEOUT_S)
            log.info("removed what is below sequence %d from %s", below, stream.name)

    def _report(self, state: StreamState, needs: Sequence[Need], below: int | None) -> None:
        if needs and (first := min(needs, key=lambda need: need.sequence)).sequence <= state.last:
            kept = state.last + 1 - max(below or 0, state.first)
            log.warning("%s is %.0f %% full: %s; %d stay", self._stream.name, 100 * state.fullness, first, kept)

    async def _needs(self, state: StreamState) -> list[tuple[Need, Entry | None]]:
        """Read what everybody needs, with the record of each position."""
        # A type that a lagging replica does not tell of would lose its events, so the leader is asked for the types. A
        # position that lags only keeps more.
        records = [await self._registry.get(key) for key in await self._registry.keys() if key.endswith(".type")]
        entries = await self._positions.entries(timeout=_TIMEOUT_S)
        positions = {key: _position(key, entry.value) for key, entry in entries.items() if entry.value is not None}
        needs: list[tuple[Need, Entry | None]] = []
        for entry in records:
            if entry.value is None:
                continue
            record = TypeRecord.from_json(entry.value)
            if record.shape is not None and record.shape.kind == "stateless":
                needs.append((await self._need_of_stateless(record, state), None))
                continue
            for need in needs_of(record, positions, stream=state.created):
                key = None if need.name is None else self._subjects.position_key(need.agent_type, need.name)
                needs.append((need, None if key is None else entries.get(key)))
        return needs

    async def _need_of_stateless(self, record: TypeRecord, state: StreamState) -> Need:
        agent_type = record.name
        try:
            info = await self._broker.api(f"CONSUMER.INFO.{self._stream.name}.{self._subjects.consumer_of(agent_type)}")
        except JetStreamError as error:
            if error.code != _CONSUMER_NOT_FOUND:
                raise
            # When it is made it begins with what is new.
            return Need(agent_type=agent_type, sequence=state.last + 1)
        done = not info["num_pending"] and not info["num_ack_pending"]
        if done:
            filters = stateless_filters(self._subjects, agent_type, record.subscriptions.filters)
            done = await self._stream.holds_none(filters, after=int(info["delivered"]["stream_seq"]), seen=state)
        return Need(agent_type=agent_type, sequence=(state.last if done else int(info["ack_floor"]["stream_seq"])) + 1)

    # Shards that nobody owns

    async def _settled(self, need: Need, entry: Entry | None, state: StreamState, goal: int) -> Need:
        """Move the position of a shard that nobody owns, and for which nothing waits, to the end of the stream."""
        position = need.position
        if need.sequence >= goal or need.name is None or position is None:
            return need
        if position.owner is not None and self._is_alive(position.owner):
            return need
        if need.scope is not None and not position.running and not position.parked:
            filters = reader_filters([(need.scope, position.subscriptions)], self._subjects)
            waiting = await count_waiting(self._broker, self._stream.name, filters, start=position.floor + 1)
            if not waiting and await self._stream.holds_none(filters, after=position.floor, seen=state):
                return await self._moved(need, position, entry, state)
        if need.scope is None or need.scope.key is not None:
            return await self._limited(need, entry, state)
        return need

    async def _moved(self, need: Need, position: Position, entry: Entry | None, state: StreamState) -> Need:
        assert need.name is not None
        moved = replace(position, floor=state.last, finished=(), unclean=0, started=None, suspect=None, lag=0)
        key = self._subjects.position_key(need.agent_type, need.name)
        try:
            await self._positions.put(key, moved.to_json(), revision=0 if entry is None else entry.revision)
        except WriteConflictError:
            # Somebody claims it just now.
            return need
        return replace(need, sequence=moved.needed_from, position=moved)

    async def _limited(self, need: Need, entry: Entry | None, state: StreamState) -> Need:
        """Return what an instance needs whose process is not there: as before, or less when it is away for long."""
        if entry is None:
            return need
        stored = await self._broker.api(f"STREAM.MSG.GET.{self._positions.stream}", {"seq": entry.revision})
        if state.now - datetime.fromisoformat(stored["message"]["time"]) < self._absence:
            return need
        kept = await self._stream.sequence_at(state.now - self._absence)
        return replace(need, sequence=max(need.sequence, state.last + 1 if kept is None else kept))


def _position(key: str, value: bytes) -> Position:
    try:
        return Position.from_json(value)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise HivewireError(f"the position {key} can't be read: {error!r}") from error
