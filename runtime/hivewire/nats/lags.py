"""How many events wait: asked of the server, so that it is true for shards that nobody owns, too.

A consumer that is made at a shard's floor, with the shard's filters, answers at once how many events it would get. What
is finished above the floor is taken off, and what is left of parked keys is counted key by key. The record's own count
is as old as its last write.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.lag_probe import count_waiting
from hivewire.nats.positions import Position
from hivewire.nats.shard_scope import ShardScope, reader_filters
from hivewire.nats.snapshot import Shard
from hivewire.nats.subjects import Subjects
from hivewire.nats.topic_filters import minimal_tails

_AT_ONCE = 16
_TOGETHER = 16
_CONSUMER_NOT_FOUND = 10014


class Lags:
    """Counts what waits in the event stream, up to its end as it was last seen. At most 16 requests are open at once.

    All methods raise `BrokerUnavailableError` when the broker doesn't answer, and `JetStreamError` when it refuses.
    """

    def __init__(self, broker: Broker, subjects: Subjects, *, last_sequence: int) -> None:
        self._broker = broker
        self._subjects = subjects
        self._last = last_sequence
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def of_shards(self, shards: Sequence[Shard]) -> list[int | None]:
        """Return how many events of each shard are not finished; None where nothing is known."""
        return list(await asyncio.gather(*map(self._of_shard, shards)))

    async def of_groups(self, shards: Sequence[Shard]) -> list[tuple[Sequence[Shard], int]]:
        """Return how many events of some shards are not finished. Those that are alike are counted together, so that
        a type that nobody serves costs two requests and not two for each shard."""
        groups = alike(shards)
        return list(zip(groups, await asyncio.gather(*map(self._of_group, groups)), strict=True))

    async def of_parked(self, agent_type: str, position: Position) -> int:
        """Return how many events of a shard's parked keys are not finished, as far as its own reader has come."""
        unfinished = sum(len(parked.unfinished) for parked in position.parked.values())
        read_through = position.read_through
        return unfinished + sum(
            await asyncio.gather(
                *(
                    self._between(
                        self._subjects.key_filters(agent_type, key, minimal_tails(parked.subscriptions.filters)),
                        parked.next,
                        read_through,
                    )
                    for key, parked in position.parked.items()
                    if parked.next is not None and parked.next <= read_through
                )
            )
        )

    async def of_stateless(self, agent_type: str) -> int | None:
        """Return how many events the shared consumer of a stateless type has not finished; None when there is none."""
        info = await self.consumer(agent_type)
        return None if info is None else info[0]

    async def consumer(self, agent_type: str) -> tuple[int, int] | None:
        """Return what `of_stateless` does, and the sequence up to which the consumer has finished everything."""
        name = self._subjects.consumer_of(agent_type)
        try:
            async with self._room:
                info = await self._broker.api(f"CONSUMER.INFO.{self._subjects.events_stream}.{name}")
        except JetStreamError as error:
            if error.code != _CONSUMER_NOT_FOUND:
                raise
            return None
        return int(info["num_pending"]) + int(info["num_ack_pending"]), int(info["ack_floor"]["stream_seq"])

    async def _of_group(self, shards: Sequence[Shard]) -> int:
        if len(shards) == 1:
            return await self._of_shard(shards[0]) or 0
        positions = [(each.scope, each.position) for each in shards if each.scope and each.position]
        return await self._from(self._filters(positions), positions[0][1].floor + 1)

    async def _of_shard(self, shard: Shard) -> int | None:
        position = shard.position
        if position is None:
            return None
        if shard.scope is None:
            return position.lag
        filters = self._filters([(shard.scope, position)])
        parked = await self.of_parked(shard.agent_type, position) if position.parked else 0
        waiting = await self._from(filters, position.floor + 1)
        if not waiting or not position.finished:
            return parked + waiting
        # What is finished above the floor may have been of other types too, so it can't just be taken off.
        beyond = await self._from(filters, position.read_through + 1)
        return parked + min(waiting, position.unfinished_read + beyond)

    def _filters(self, shards: Sequence[tuple[ShardScope, Position]]) -> list[str]:
        filters = reader_filters(((scope, position.subscriptions) for scope, position in shards), self._subjects)
        # An announcement of subscriptions waits for the reader, and not for an agent.
        filters.remove(self._subjects.marker(shards[0][0].agent_type))
        return filters

    async def _between(self, filters: Sequence[str], first: int, last: int) -> int:
        return await self._from(filters, first) - await self._from(filters, last + 1)

    async def _from(self, filters: Sequence[str], start: int) -> int:
        if start > self._last:
            return 0
        async with self._room:
            return await count_waiting(self._broker, self._subjects.events_stream, filters, start=start)


def alike(shards: Iterable[Shard]) -> list[list[Shard]]:
    """Put together the shards of a type that were read up to the same place with the same subscriptions, at most 16;
    one that leaves something out is alone."""
    groups: defaultdict[tuple[object, ...], list[Shard]] = defaultdict(list)
    for number, shard in enumerate(shards):
        position = shard.position
        if position is None or shard.scope is None or position.finished or position.parked:
            groups[number,].append(shard)
        else:
            groups[position.floor, position.subscriptions].append(shard)
    return [group[start : start + _TOGETHER] for group in groups.values() for start in range(0, len(group), _TOGETHER)]
