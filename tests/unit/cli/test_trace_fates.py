"""What became of a message at an agent, as positions, sessions and consumers tell."""

from datetime import UTC, datetime

import pytest

from hivewire.cli.message_heads import MessageHead
from hivewire.cli.trace_fates import Progress, Records
from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.positions import ParkedKey, Position, RunningElsewhere, SubscriptionChange, Suspect
from hivewire.nats.registry import Beginning, TypeKind, TypeRecord, TypeShape
from hivewire.nats.session import SessionRecord
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.snapshot import Shard, Snapshot

STREAM = "s"
ORDERS = SubscriptionChange(change=1, filters=())
ADA = AgentId("stock", "ada")
POD = SessionRecord(session="s1", deployment="d", instance="pod-a", state="serving", types=("stock",))


def head(sequence: int, *, recipient: AgentId | None = None, sender: AgentId | None = None) -> MessageHead:
    return MessageHead(
        sequence=sequence,
        stored_at=datetime(2026, 1, 2, tzinfo=UTC),
        id="m",
        topic=TopicId("orders", "ada"),
        sender=sender,
        type_name="Order",
        size_bytes=1,
        trace_id=None,
        span_id=None,
        recipient=recipient,
        key_token="ada",
        lineage=(),
    )


def type_record(kind: TypeKind = "sharded", *, begins: int = 1, name: str = "stock") -> TypeRecord:
    return TypeRecord(
        name=name,
        shape=TypeShape(kind=kind, shards=1),
        declared=frozenset({"exact:orders"}),
        begins=Beginning(sequence=begins, stream=STREAM, subscriptions=ORDERS),
    )


def position(**values: object) -> Position:
    return Position(**{"owner": "s1", "epoch": 1, "stream": STREAM, "subscriptions": ORDERS, "floor": 10, **values})  # type: ignore[arg-type]


def records(
    where: Position | None,
    *,
    sessions: tuple[SessionRecord, ...] = (POD,),
    record: TypeRecord | None = None,
    scope: ShardScope | None = None,
    stateless: Progress | None = None,
) -> Records:
    shard = Shard(
        agent_type="stock",
        name="0",
        owner=where and where.owner,
        scope=scope or ShardScope(agent_type="stock"),
        position=where,
    )
    snapshot = Snapshot(types=(record or type_record(),), sessions=sessions, shards=(shard,))
    return Records(snapshot=snapshot, stream=STREAM, stateless={"stock": stateless} if stateless else {})


PARKED = ParkedKey(unfinished=(4,), next=30, subscriptions=ORDERS)


@pytest.mark.parametrize(
    ("where", "sequence", "state"),
    [
        (position(), 10, "finished"),
        (position(), 11, "taken"),
        (position(finished=((13, 14),)), 14, "finished"),
        (position(finished=((13, 14),)), 12, "taken"),
        (position(running={"ada": RunningElsewhere("d", "s0", (12,))}), 12, "running"),
        (position(suspect=Suspect(12, 1)), 12, "running"),
        (position(parked={"ada": PARKED}), 4, "parked"),
        (position(parked={"ada": PARKED}), 30, "parked"),
        (position(parked={"ada": PARKED}, floor=40), 31, "parked"),
        (position(parked={"ada": PARKED}, floor=40), 29, "finished"),
        (position(parked={"bob": PARKED}, floor=40), 31, "finished"),
        (position(owner=None), 11, "waiting"),
        (position(owner="s0"), 11, "waiting"),
        (None, 11, "waiting"),
    ],
)
def test_the_position_of_its_shard_tells(where: Position | None, sequence: int, state: str) -> None:
    assert records(where).fate(head(sequence), ADA, None).state == state


def test_who_has_it_and_why_it_waits_is_told() -> None:
    assert records(position()).fate(head(11), ADA, None).why == "it runs or waits in pod-a"
    assert records(position(owner=None)).fate(head(11), ADA, None).why == "no process has read so far"
    assert records(position(owner="s0"), sessions=()).fate(head(11), ADA, None).why == "no process serves stock"
    unknown = AgentId("gone", "ada")
    assert records(position()).fate(head(1), unknown, None).why == "no process has registered the type gone"


def test_one_that_was_sent_again_leads_there() -> None:
    fate = records(position()).fate(head(3), ADA, None, [7, 9])
    assert (fate.state, fate.replays) == ("replayed", (7, 9))


@pytest.mark.parametrize(("sequence", "state"), [(5, "finished"), (6, "taken"), (8, "taken"), (9, "waiting")])
def test_the_shared_consumer_of_a_stateless_type_tells(sequence: int, state: str) -> None:
    known = records(None, record=type_record("stateless"), stateless=Progress(finished=5, taken=8))
    assert known.fate(head(sequence), ADA, None).state == state


def test_subscribers_are_its_recipients_but_its_sender_and_those_that_came_later() -> None:
    known = records(position())
    assert known.recipients(head(3)) == [ADA]
    assert known.recipients(head(3, sender=ADA)) == []
    assert known.recipients(head(3, recipient=AgentId("other", "x"))) == [AgentId("other", "x")]
    assert records(position(), record=type_record(begins=4)).recipients(head(3)) == []


def test_of_instances_only_one_with_its_key_is_a_recipient() -> None:
    of_instances = type_record("instances")
    ada, bob = (ShardScope(agent_type="stock", key=key) for key in ("ada", "bob"))
    assert records(position(), record=of_instances, scope=ada).recipients(head(3)) == [ADA]
    assert records(position(), record=of_instances, scope=bob).recipients(head(3)) == []
