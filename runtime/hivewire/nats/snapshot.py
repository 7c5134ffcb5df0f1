"""What the buckets of a namespace say at one moment: agent types, the processes that serve them, and their shards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hivewire.nats.broker import Broker
from hivewire.nats.buckets import Bucket, Entry
from hivewire.nats.positions import Position
from hivewire.nats.registry import TypeRecord, first_position
from hivewire.nats.session import SessionRecord
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.tokens import untoken

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A share of a type's keys, or the one key of a registered instance.

    `name` is its number or the key, `owner` the session that holds it. `scope` is None when the key is too long to be
    read back from the name of the record. `position` is where it is read from, None when it was never read and its type
    has no subscriptions yet.
    """

    agent_type: str
    name: str
    owner: str | None
    scope: ShardScope | None
    position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The agent types by name, the live sessions, and the shards of all types."""

    types: tuple[TypeRecord, ...]
    sessions: tuple[SessionRecord, ...]
    shards: tuple[Shard, ...]

    def session(self, session: str | None) -> SessionRecord | None:
        """Return the live session of this id."""
        return next((each for each in self.sessions if each.session == session), None)


async def take_snapshot(broker: Broker, subjects: Subjects, *, stream_created: str) -> Snapshot:
    """Read the three buckets once; what changes meanwhile may be in one and not yet in another.

    Raises:
        BrokerUnavailableError: the broker doesn't answer.
    """
    registry = await Bucket(broker, subjects.registry_bucket).entries("*.type")
    leases = await Bucket(broker, subjects.leases_bucket).entries()
    positions = await Bucket(broker, subjects.positions_bucket).entries()
    types = sorted((TypeRecord.from_json(value) for value in _values(registry)), key=lambda record: record.name)
    sessions = sorted(
        (SessionRecord.from_json(value) for value in _values(leases)),
        key=lambda session: (session.deployment, session.instance, session.session),
    )
    known = by_type_token(
        {key: Position.from_json(entry.value) for key, entry in positions.items() if entry.value is not None}
    )
    shards = [
        shard
        for record in types
        for shard in shards_of(record, known.get(type_token(record.name), {}), stream_created=stream_created)
    ]
    return Snapshot(types=tuple(types), sessions=tuple(sessions), shards=tuple(shards))


def by_type_token(records: Mapping[str, V]) -> dict[str, dict[str, V]]:
    """Sort the records of positions, which come by their keys, by the token of the type and then the shard's name."""
    by_type: defaultdict[str, dict[str, V]] = defaultdict(dict)
    for key, record in records.items():
        token, _, name = key.partition(".")
        by_type[token][name] = record
    return by_type


def shards_of(record: TypeRecord, positions: Mapping[str, Position], *, stream_created: str) -> Iterator[Shard]:
    """Yield the shards of a type; one that is stateless, or not registered, has none.

    Args:
        positions: Those of the type, by the names of its shards.
        stream_created: The creation time of the event stream.
    """
    if record.shape is None or record.shape.kind == "stateless":
        return
    for scope, name in _scopes(record, positions):
        position = positions.get(name)
        if position is None or position.stream != stream_created:
            # Never read, or read in a stream that is gone: it will be read from the type's beginning.
            owner, position = None, first_position(record, stream_created)
        else:
            owner = position.owner
        shown = name if scope is None or scope.key is None else scope.key
        yield Shard(agent_type=record.name, name=shown, owner=owner, scope=scope, position=position)


def _scopes(record: TypeRecord, positions: Mapping[str, Position]) -> Iterator[tuple[ShardScope | None, str]]:
    assert record.shape is not None
    if record.shape.kind == "sharded":
        for shard in range(record.shape.shards):
            yield ShardScope(agent_type=record.name, shard=shard, shards=record.shape.shards), str(shard)
        return
    for name in sorted(positions):
        key = untoken(name)
        yield None if key is None else ShardScope(agent_type=record.name, key=key), name


def _values(entries: Mapping[str, Entry]) -> Iterator[bytes]:
    return (entry.value for entry in entries.values() if entry.value is not None)
