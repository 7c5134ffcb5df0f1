"""What is seen of a whole system at one moment, and what of it the records alone can tell. Without I/O.

The owner of a shard writes into its position how much waits, within seconds of a change; a shard for which nothing
waits follows the end of the stream every minute. So the record tells the lag of a shard whose owner lives, unless it is
old and the stream has gone on since. Of all others the server has to be asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from hivewire.nats.positions import SubscriptionChange
from hivewire.nats.registry import TypeKind, TypeRecord
from hivewire.nats.session import SessionRecord
from hivewire.nats.snapshot import Shard
from hivewire.nats.subjects import Subjects, shard_of, type_of_token, type_token
from hivewire.nats.tokens import slot_of_token

STALE_AFTER_S: Final = 90.0
"""How old a record may be that tells nothing new. Longer than a shard for which nothing waits takes to follow the end
of the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeObservation:
    """An agent type that some process has registered.

    `shards` is None unless it is sharded. `lag_messages` counts the stored events that are not finished, those that run
    included, and `oldest_event_s` is the age of the oldest of them by the server's clock; None when nothing waits. Of
    registered instances those count whose process lives.
    """

    name: str
    kind: TypeKind
    shards: int | None
    shards_owned: int
    lag_messages: int
    oldest_event_s: float | None
    dead_letters: int

    @property
    def shards_without_owner(self) -> int | None:
        """How many shards no living process owns; None for a type that is not sharded."""
        return None if self.shards is None else self.shards - self.shards_owned


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A system at one moment. `types` are sorted by name, `sessions` by deployment, instance and id.

    `dead_letters` are those of all types, also of those that are registered no more. `shards_owned` has the sessions
    that own any.
    """

    types: tuple[TypeObservation, ...]
    sessions: tuple[SessionRecord, ...]
    shards_owned: Mapping[str, int]
    dead_letters: Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class SortedShards:
    """The shards of a type: those whose records tell their lag, and those of which the server has to be asked.

    `owned` are the owners that live, one for each of their shards.
    """

    told: list[Shard] = field(default_factory=list)
    untold: list[Shard] = field(default_factory=list)
    owned: list[str] = field(default_factory=list)


def sort_shards(
    shards: Iterable[Shard],
    *,
    living: Collection[str],
    written_at: Mapping[str, datetime],
    stale_before: datetime,
    stale_below: int,
) -> SortedShards:
    """Sort the shards of a type. What an instance waits for that nobody hosts is left out: it may never come back.

    Args:
        living: The sessions that live.
        written_at: When the positions were written, by the names of the shards.
        stale_before: A record that was written before, and whose floor is lower than `stale_below`, is too old.
        stale_below: The first sequence of the event stream that was stored at `stale_before` or later.
    """
    found = SortedShards()
    for shard in shards:
        is_owned = shard.owner is not None and shard.owner in living
        if is_owned and shard.owner is not None:
            found.owned.append(shard.owner)
        position, scope = shard.position, shard.scope
        if position is None or (not is_owned and (scope is None or scope.key is not None)):
            continue
        written = written_at.get(shard.name if scope is None else scope.name)
        is_fresh = written is not None and (written >= stale_before or position.floor + 1 >= stale_below)
        if is_owned and (is_fresh or scope is None):
            found.told.append(shard)
        else:
            found.untold.append(shard)
    return found


def with_later_subscriptions(shard: Shard, record: TypeRecord) -> Shard:
    """Return a shard as if what its type subscribes to now had been in force at its floor, too.

    Its reader has not come to where that changed. So what was published before the change counts as well if only the
    later subscriptions match, until somebody reads: too much is seen to wait rather than nothing.
    """
    position, later = shard.position, record.subscriptions
    if position is None or position.subscriptions.change >= later.change:
        return shard
    filters = tuple(dict.fromkeys([*position.subscriptions.filters, *later.filters]))
    known = replace(position, subscriptions=SubscriptionChange(change=later.change, filters=filters))
    return replace(shard, position=known)


class WaitingShards:
    """Tells whether a stored event waits for one of some shards of a type, which have a position and a scope."""

    def __init__(self, shards: Iterable[Shard], subjects: Subjects) -> None:
        self._subjects = subjects
        self._by_name: dict[str, Shard] = {}
        self._shards = 0
        for shard in shards:
            if shard.scope is not None and shard.position is not None:
                self._by_name[shard.scope.name] = shard
                self._shards = 0 if shard.scope.key is not None else shard.scope.shards

    @property
    def first_needed(self) -> int | None:
        """The first sequence that one of them may need; None without shards."""
        needed = [shard.position.needed_from for shard in self._by_name.values() if shard.position is not None]
        return min(needed, default=None)

    def has(self, subject: str, sequence: int) -> bool:
        """Tell whether the message that the stream has there, under this subject, is to be finished by one of them.

        What the type subscribes to is not looked at.
        """
        key_token = self._key_token(subject)
        if key_token is None:
            return False
        name = str(shard_of(slot_of_token(key_token), self._shards)) if self._shards else key_token
        shard = self._by_name.get(name)
        return shard is not None and shard.position is not None and shard.position.waits(sequence, key_token)

    def _key_token(self, subject: str) -> str | None:
        try:
            return self._subjects.parse_stored_event(subject).source_token
        except ValueError:
            pass
        try:
            return self._subjects.parse_inbox(subject).key_token
        except ValueError:
            return None


def by_type_name(counts: Mapping[str, int], types: Iterable[TypeRecord]) -> dict[str, int]:
    """Return counts, which come by the tokens of types, by the names of the types. A token that is a hash of a type
    that is not registered any more is left out."""
    names: dict[str, str | None] = {type_token(record.name): record.name for record in types}
    found: dict[str, int] = {}
    for token, count in counts.items():
        try:
            name = names[token] if token in names else type_of_token(token)
        except ValueError:
            continue
        if name is not None:
            found[name] = count
    return found
