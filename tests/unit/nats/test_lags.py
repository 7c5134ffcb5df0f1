"""Which shards are counted together."""

from dataclasses import replace

from hivewire.nats.lags import alike
from hivewire.nats.positions import Position, SubscriptionChange
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.snapshot import Shard

POSITION = Position(owner=None, epoch=1, stream="s", subscriptions=SubscriptionChange(change=1, filters=()), floor=10)


def shard(number: int, position: Position | None = POSITION) -> Shard:
    scope = ShardScope(agent_type="worker", shard=number, shards=64)
    return Shard(agent_type="worker", name=str(number), owner=None, scope=scope, position=position)


def numbers(*shards: Shard) -> list[list[int]]:
    return [[int(each.name) for each in group] for group in alike(shards)]


def test_shards_that_were_read_up_to_the_same_place_are_counted_together() -> None:
    further = replace(POSITION, floor=11)
    assert numbers(shard(0), shard(1, further), shard(2), shard(3, further)) == [[0, 2], [1, 3]]


def test_those_with_something_finished_above_or_another_set_are_apart() -> None:
    finished = replace(POSITION, finished=((12, 12),))
    other = replace(POSITION, subscriptions=SubscriptionChange(change=2, filters=()))
    assert numbers(shard(0), shard(1, finished), shard(2, finished), shard(3, other), shard(4, None)) == [
        [0],
        [1],
        [2],
        [3],
        [4],
    ]


def test_no_more_than_sixteen_are_together() -> None:
    assert [len(group) for group in alike(map(shard, range(40)))] == [16, 16, 8]
