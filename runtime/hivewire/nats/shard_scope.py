"""What belongs to a shard, and the filters by which several shards are read at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from hivewire.nats.positions import SubscriptionChange
from hivewire.nats.subjects import Subjects
from hivewire.nats.tokens import token
from hivewire.nats.topic_filters import TopicFilter, minimal_tails


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardScope:
    """Which messages belong to a shard: share `shard` of `shards`, or, with `key`, those of one instance."""

    agent_type: str
    shard: int = 0
    shards: int = 1
    key: str | None = None

    @property
    def name(self) -> str:
        """The last part of the key of the shard's position."""
        return str(self.shard) if self.key is None else token(self.key)

    def calls(self, subjects: Subjects) -> list[str]:
        """Return the subjects of its direct messages."""
        if self.key is not None:
            return [subjects.rpc(self.agent_type, self.key)]
        return subjects.rpc_shard(self.agent_type, self.shard, self.shards)


def reader_filters(shards: Iterable[tuple[ShardScope, SubscriptionChange]], subjects: Subjects) -> list[str]:
    """Return the filters of one reader for some shards with the same slots, or for some instances: their events, their
    durable messages, and the markers of their types. No two overlap, which the server would refuse."""
    topics: defaultdict[tuple[int, int, str | None], set[TopicFilter]] = defaultdict(set)
    others: set[str] = set()
    for scope, subscriptions in shards:
        topics[scope.shard, scope.shards, scope.key] |= set(subscriptions.filters)
        others.add(subjects.marker(scope.agent_type))
        if scope.key is not None:
            others.add(subjects.inbox(scope.agent_type, scope.key))
        else:
            others |= set(subjects.inbox_filters(scope.agent_type, scope.shard, scope.shards))
    filters = sorted(others)
    for (shard, count, key), topic_filters in topics.items():
        tails = minimal_tails(topic_filters)
        if key is not None:
            filters += subjects.stored_event_filters_of_source(tails, key)
        else:
            filters += subjects.stored_event_filters(tails, shard, count)
    return filters
