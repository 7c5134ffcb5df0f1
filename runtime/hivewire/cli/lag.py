"""How many events wait: asked of the server, so that it is true for shards that nobody owns, too.

A consumer that is made at a shard's floor, with the shard's filters, answers at once how many events it would get. What
is finished above the floor is taken off. The record's own count is as old as its last write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hivewire.cli.connection import Namespace
from hivewire.cli.snapshot import Shard
from hivewire.nats.broker import JetStreamError
from hivewire.nats.lag_probe import count_waiting
from hivewire.nats.positions import Position
from hivewire.nats.registry import TypeRecord
from hivewire.nats.shard_scope import reader_filters

_AT_ONCE = 16


async def lags_of(namespace: Namespace, shards: Sequence[Shard]) -> list[int | None]:
    """Return how many events of each shard are not finished; None where nothing is known.

    Raises:
        BrokerUnavailableError: the broker doesn't answer.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(shard: Shard) -> int | None:
        if shard.position is None:
            return None
        if shard.scope is None:
            return shard.position.lag
        # What is left of parked keys lies below the floor too, and only the owner has counted it.
        known = shard.position.lag if shard.position.parked else 0
        if shard.position.floor >= namespace.last_sequence:
            return known
        async with room:
            filters = reader_filters([(shard.scope, shard.position.subscriptions)], namespace.subjects)
            stream, start = namespace.subjects.events_stream, shard.position.floor + 1
            waiting = await count_waiting(namespace.broker, stream, filters, start=start)
        return max(waiting - finished_above_floor(shard.position), known)

    return list(await asyncio.gather(*map(one, shards)))


async def stateless_lag(namespace: Namespace, record: TypeRecord) -> int | None:
    """Return how many events the shared consumer of a stateless type has not finished; None when there is none.

    Raises:
        BrokerUnavailableError: the broker doesn't answer.
    """
    subjects = namespace.subjects
    try:
        info = await namespace.broker.api(f"CONSUMER.INFO.{subjects.events_stream}.{subjects.consumer_of(record.name)}")
    except JetStreamError:
        return None
    return int(info["num_pending"]) + int(info["num_ack_pending"])


def finished_above_floor(position: Position) -> int:
    """Count what is finished beyond the floor."""
    return sum(last - first + 1 for first, last in position.finished)
