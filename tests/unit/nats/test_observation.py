"""What the records alone tell of a system."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hivewire.nats.observation import SortedShards, TypeObservation, WaitingShards, by_type_name, sort_shards
from hivewire.nats.positions import ParkedKey, Position, SubscriptionChange
from hivewire.nats.registry import TypeRecord
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.snapshot import Shard
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.tokens import slot, token

NOTHING = SubscriptionChange(change=1, filters=())
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECTS = Subjects("ns")


def position(floor: int = 10, **fields: object) -> Position:
    return replace(Position(owner=None, epoch=1, stream="s", subscriptions=NOTHING, floor=floor), **fields)


def shard(number: int = 0, owner: str | None = "s1", *, shards: int = 4, where: Position | None = None) -> Shard:
    scope = ShardScope(agent_type="worker", shard=number, shards=shards)
    return Shard(agent_type="worker", name=str(number), owner=owner, scope=scope, position=where or position())


def instance(key: str, owner: str | None) -> Shard:
    scope = ShardScope(agent_type="worker", key=key)
    return Shard(agent_type="worker", name=key, owner=owner, scope=scope, position=position())


def sort(*shards: Shard, age_s: float = 0, stale_below: int = 100) -> SortedShards:
    written_at = {each.scope.name: NOW - timedelta(seconds=age_s) for each in shards if each.scope is not None}
    return sort_shards(
        shards,
        living={"s1"},
        written_at=written_at,
        stale_before=NOW - timedelta(seconds=90),
        stale_below=stale_below,
    )


def test_a_shard_whose_owner_lives_is_told_by_its_record() -> None:
    mine, left, dead = shard(0, "s1"), shard(1, None), shard(2, "gone")
    found = sort(mine, left, dead)
    assert (found.told, found.untold, found.owned) == ([mine], [left, dead], ["s1"])


def test_an_old_record_is_believed_as_long_as_the_stream_has_not_gone_on() -> None:
    old = shard(where=position(floor=10))
    assert sort(old, age_s=100, stale_below=11).told == [old]
    assert sort(old, age_s=100, stale_below=12).untold == [old]
    assert sort(old, age_s=80, stale_below=12).told == [old]


def test_a_shard_that_was_never_read_waits_for_nothing_that_is_known() -> None:
    never = replace(shard(0, None), position=None)
    assert sort(never) == SortedShards()


def test_instances_count_while_their_process_lives() -> None:
    lives, ended = instance("a", "s1"), instance("b", None)
    found = sort(lives, ended, instance("c", "gone"))
    assert (found.told, found.untold, found.owned) == ([lives], [], ["s1"])


def test_only_sharded_types_have_shards_without_an_owner() -> None:
    sharded = TypeObservation(
        name="worker", kind="sharded", shards=4, shards_owned=1, lag_messages=0, oldest_event_s=None, dead_letters=0
    )
    assert sharded.shards_without_owner == 3
    assert replace(sharded, kind="stateless", shards=None).shards_without_owner is None


def test_an_event_waits_for_the_shard_of_its_key() -> None:
    number = slot("k") % 4
    waiting = WaitingShards([shard(number, where=position(10, finished=((12, 13),)))], SUBJECTS)
    event, message = SUBJECTS.stored_event("k", "news"), SUBJECTS.inbox("worker", "k")
    other = next(key for key in map(str, range(99)) if slot(key) % 4 != number)
    assert [waiting.has(event, sequence) for sequence in (10, 11, 12, 13, 14)] == [False, True, False, False, True]
    assert waiting.has(message, 11)
    assert not waiting.has(SUBJECTS.stored_event(other, "news"), 11)
    assert not waiting.has(SUBJECTS.marker("worker"), 11)
    assert waiting.first_needed == 11
    assert WaitingShards([], SUBJECTS).first_needed is None


def test_an_event_waits_for_its_instance_only() -> None:
    waiting = WaitingShards([instance("k", "s1")], SUBJECTS)
    assert waiting.has(SUBJECTS.stored_event("k", "news"), 11)
    assert not waiting.has(SUBJECTS.stored_event("l", "news"), 11)


def test_what_is_left_of_a_parked_key_waits_below_the_floor() -> None:
    parked = ParkedKey(unfinished=(5,), next=8, subscriptions=NOTHING)
    number = slot("k") % 4
    waiting = WaitingShards([shard(number, where=position(10, parked={token("k"): parked}))], SUBJECTS)
    event = SUBJECTS.stored_event("k", "news")
    assert [waiting.has(event, sequence) for sequence in (4, 5, 6, 8)] == [False, True, False, True]
    assert waiting.first_needed == 5


def test_counts_get_the_names_of_their_types() -> None:
    long = "t" * 200
    counts = {type_token("a.b"): 1, type_token(long): 2, type_token("gone"): 3, type_token("g" * 200): 4, "=zz": 5}
    assert by_type_name(counts, [TypeRecord(name=long)]) == {"a.b": 1, long: 2, "gone": 3}


@pytest.mark.parametrize(
    ("finished", "read_through", "unfinished"), [((), 10, 0), (((12, 12), (15, 17)), 17, 3), (((11, 20),), 20, 0)]
)
def test_a_record_tells_what_was_read_and_not_finished(
    finished: tuple[tuple[int, int], ...], read_through: int, unfinished: int
) -> None:
    record = position(10, finished=finished)
    assert (record.read_through, record.unfinished_read) == (read_through, unfinished)
