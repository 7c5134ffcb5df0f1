"""How many events wait: asked of the server, so that it is true for shards that nobody owns, too.

A consumer that is made at a shard's floor, with the shard's filters, answers at once how many events it would get. What
is finished above the floor is taken off. The record's own count is as old as its last write.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from hivewire.cli.connection import Namespace
from hivewire.cli.snapshot import Shard
from hivewire.nats.broker import JetStreamError
from hivewire.nats.positions import Position
from hivewire.nats.registry import TypeRecord
from hivewire.nats.shard_scope import reader_filters

_AT_ONCE = 16
_PROBE_LIVES_S = 5
_NANOSECONDS = 1_000_000_000


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
        if shard.position.floor >= namespace.last_sequence:
            return 0
        async with room:
            filters = reader_filters([(shard.scope, shard.position.subscriptions)], namespace.subjects)
            waiting = await _probe(namespace, filters, shard.position.floor + 1)
        return max(waiting - finished_above_floor(shard.position), 0)

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


async def _probe(namespace: Namespace, filters: Sequence[str], start: int) -> int:
    stream, name = namespace.subjects.events_stream, secrets.token_hex(8)
    config = {
        "name": name,
        "ack_policy": "none",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": start,
        "filter_subjects": list(filters),
        "num_replicas": 1,
        "mem_storage": True,
        "inactive_threshold": _PROBE_LIVES_S * _NANOSECONDS,
    }
    body = {"stream_name": stream, "config": config, "action": "create"}
    made = await namespace.broker.api(f"CONSUMER.CREATE.{stream}.{name}", body, timeout=10.0)
    await namespace.broker.api(f"CONSUMER.DELETE.{stream}.{name}", timeout=10.0)
    return int(made["num_pending"])
