"""Which shards share a reader."""

from hypothesis import given
from hypothesis import strategies as st

from hivewire.nats.positions import SubscriptionChange
from hivewire.nats.reader_plan import plan_readers
from hivewire.nats.shard_scope import ShardScope, reader_filters
from hivewire.nats.subjects import Subjects
from hivewire.nats.topic_filters import TopicFilter

MEMBERS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 3), st.booleans()), unique_by=lambda member: member[0], max_size=30
)


@given(MEMBERS)
def test_every_shard_has_exactly_one_reader(members: list[tuple[int, int, bool]]) -> None:
    readers = plan_readers(members)
    assert sorted(shard for reader in readers for shard in reader) == sorted(shard for shard, _, _ in members)


@given(MEMBERS)
def test_a_shard_that_lags_reads_alone(members: list[tuple[int, int, bool]]) -> None:
    readers = plan_readers(members)
    assert all(frozenset([shard]) in readers for shard, _, keeps_up in members if not keeps_up)


@given(MEMBERS)
def test_shards_that_keep_up_share_a_reader_per_slots(members: list[tuple[int, int, bool]]) -> None:
    keeping_up = {slots for _, slots, keeps_up in members if keeps_up}
    lagging = sum(not keeps_up for _, _, keeps_up in members)
    assert len(plan_readers(members)) == len(keeping_up) + lagging


def test_the_filters_of_a_shared_reader_do_not_overlap() -> None:
    subjects = Subjects("test")
    exact = SubscriptionChange(change=1, filters=(TopicFilter(kind="exact", value="task.a"),))
    prefix = SubscriptionChange(change=1, filters=(TopicFilter(kind="prefix", value="task."),))
    shards = [
        (ShardScope(agent_type="a", shard=3, shards=16), exact),
        (ShardScope(agent_type="b", shard=3, shards=16), prefix),
    ]
    assert reader_filters(shards, subjects) == [
        "test.inbox.a.3.*.*",
        "test.inbox.b.3.*.*",
        "test.marker.a",
        "test.marker.b",
        "test.events.3.*.*.task.>",
    ]


def test_instances_of_one_key_are_read_by_filters_that_do_not_overlap() -> None:
    subjects = Subjects("test")
    every = SubscriptionChange(change=1, filters=(TopicFilter(kind="prefix", value=""),))
    exact = SubscriptionChange(change=1, filters=(TopicFilter(kind="exact", value="x"),))
    shards = [(ShardScope(agent_type="a", key="k"), exact), (ShardScope(agent_type="b", key="k"), every)]
    events = [each for each in reader_filters(shards, subjects) if each.startswith("test.events.")]
    assert events == [f"{subjects.stored_event('k', 'x').removesuffix('x')}>"]
