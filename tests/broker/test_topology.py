"""The topology plan against a real server: it is accepted, it is stable, and subjects are stored as predicted."""

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from hivewire.nats.broker import Broker
from hivewire.nats.provisioner import provision, provision_stateless
from hivewire.nats.registry import TypeRecord, TypeShape
from hivewire.nats.subjects import Subjects
from hivewire.nats.tokens import slot
from hivewire.nats.topic_filters import TopicFilter
from hivewire.nats.topology import (
    MAX_CONSUMERS,
    PLAN_KEY,
    PLAN_VERSION,
    Change,
    StatelessConsumer,
    Topology,
    difference,
    plan,
)


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


@pytest.fixture
def subjects(namespace: str) -> Subjects:
    return Subjects(namespace)


async def ask(client: Client, subject: str, body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await client.request(subject, json.dumps(body).encode())).data)
    assert "error" not in answer, (subject, body, answer["error"])
    return answer


async def apply(client: Client, changes: list[Change]) -> None:
    for change in changes:
        await ask(client, *change.request())


async def live(client: Client, desired: Topology) -> Topology:
    streams = {name: (await ask(client, f"$JS.API.STREAM.INFO.{name}", {}))["config"] for name in desired.streams}
    consumers = {
        (stream, name): (await ask(client, f"$JS.API.CONSUMER.INFO.{stream}.{name}", {}))["config"]
        for stream, name in desired.consumers
    }
    return Topology(streams=streams, consumers=consumers)


async def make(client: Client, desired: Topology) -> None:
    await apply(client, difference(desired, Topology(streams={}, consumers={})))


async def subject_of(client: Client, stream: str, sequence: int) -> str:
    message = (await ask(client, f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": sequence}))["message"]
    subject: str = message["subject"]
    return subject


def planned(subjects: Subjects, *topics: str) -> Topology:
    filters = [TopicFilter(kind="prefix", value=topic) for topic in topics]
    return plan(subjects, stateless=[StatelessConsumer(agent_type="crunch", filters=filters)])


async def test_a_plan_is_accepted_twice_and_leaves_no_difference(client: Client, subjects: Subjects) -> None:
    desired = planned(subjects, "task.", "worker:", "")
    await make(client, desired)
    await make(client, desired)
    assert difference(desired, await live(client, desired)) == []


async def test_every_drift_is_repaired_and_what_was_set_by_hand_stays(client: Client, subjects: Subjects) -> None:
    before, desired = planned(subjects), planned(subjects, "task.")
    await make(client, before)
    for name, config in (await live(client, before)).streams.items():
        drifted = {**config, "max_consumers": 500, "max_bytes": 10_000_000, "metadata": {"owner": "ops"}}
        await ask(client, f"$JS.API.STREAM.UPDATE.{name}", drifted)
    changes = difference(desired, await live(client, before))
    assert {change.action for change in changes} == {"update"}
    await apply(client, changes)
    now = await live(client, desired)
    assert difference(desired, now) == []
    assert now.streams[subjects.events_stream]["max_consumers"] == MAX_CONSUMERS
    assert all(config["max_bytes"] == 10_000_000 for config in now.streams.values())
    assert all(config["metadata"]["owner"] == "ops" for config in now.streams.values())


async def test_an_older_version_undoes_nothing_that_a_newer_one_has_planned(
    nats_url: str, client: Client, subjects: Subjects
) -> None:
    metadata = {"metadata": {PLAN_KEY: str(PLAN_VERSION + 1)}}
    older = planned(subjects)
    newer = Topology(
        streams={
            name: {**config, **metadata, "max_consumers": 77, "duplicate_window": 60_000_000_000}
            for name, config in older.streams.items()
        },
        consumers={
            key: {**config, **metadata, "ack_wait": 5_000_000_000, "filter_subjects": [subjects.inboxes]}
            if key[0] == subjects.events_stream
            else {**config, **metadata, "ack_wait": 5_000_000_000}
            for key, config in older.consumers.items()
        },
    )
    await make(client, newer)
    before = await live(client, newer)
    crunch = TypeRecord(name="crunch", shape=TypeShape(kind="stateless", shards=1), declared=frozenset({"exact:t"}))
    broker = Broker(nats_url, name="older")
    await broker.open()
    try:
        await provision(broker, subjects)
        await provision_stateless(broker, subjects, crunch)
    finally:
        await broker.close()
    assert await live(client, newer) == before


async def test_events_are_stored_under_the_subject_that_is_predicted(client: Client, subjects: Subjects) -> None:
    await make(client, plan(subjects))
    randomness = random.Random(7)
    alphabet = "abz019._-:=*> /@é𝄞"
    for number in range(200):
        source = "".join(randomness.choices(alphabet, k=randomness.randrange(1, 160)))
        topic_type = "".join(randomness.choices("ab.:=-é", k=randomness.randrange(1, 20)))
        answer = await ask(client, subjects.event(source, topic_type), {"number": number})
        stored = await subject_of(client, subjects.events_stream, answer["seq"])
        assert stored == subjects.stored_event(source, topic_type)
        assert subjects.parse_stored_event(stored).slot == slot(source)


async def test_inboxes_and_markers_are_stored_unchanged(client: Client, subjects: Subjects) -> None:
    await make(client, plan(subjects))
    for subject in (subjects.inbox("worker", "k.1"), subjects.inbox("worker", ""), subjects.marker("worker")):
        answer = await ask(client, subject, {})
        assert await subject_of(client, subjects.events_stream, answer["seq"]) == subject


@pytest.mark.parametrize("shards", [1, 2, 16, 64, 256])
async def test_the_filters_of_the_shards_take_each_event_once(client: Client, subjects: Subjects, shards: int) -> None:
    await make(client, plan(subjects))
    count = 100
    for number in range(count):
        await ask(client, subjects.event(f"k{number}", "task.a"), {})
        await ask(client, subjects.event(f"k{number}", "other"), {})
    pending = 0
    for shard in {shards - 1, *(slot(f"k{number}") % shards for number in range(count))}:
        config = {
            "name": f"probe{shard}",
            "ack_policy": "none",
            "filter_subjects": subjects.stored_event_filters(["task.>"], shard, shards),
            "mem_storage": True,
            "inactive_threshold": 30_000_000_000,
        }
        body = {"stream_name": subjects.events_stream, "config": config, "action": "create"}
        created = await ask(client, f"$JS.API.CONSUMER.CREATE.{subjects.events_stream}.probe{shard}", body)
        assert created["num_pending"] == sum(slot(f"k{number}") % shards == shard for number in range(count))
        pending += created["num_pending"]
    assert pending == count


async def test_overlapping_subscriptions_make_a_consumer_that_the_server_accepts(
    client: Client, subjects: Subjects
) -> None:
    values = ["task.", "task.a", "task.a.", "worker:", "worker:x.", "a:.b", "task"]
    filters = [TopicFilter(kind=kind, value=value) for value in values for kind in ("exact", "prefix")]
    narrow, wide = filters[:-1], filters  # The last one is covered by ">" alone, which takes everything in.
    for some in (narrow, wide):
        desired = plan(subjects, stateless=[StatelessConsumer(agent_type=f"t{len(some)}", filters=some)])
        await make(client, desired)


async def test_a_bucket_of_the_plan_opens_as_a_bucket(client: Client, subjects: Subjects) -> None:
    await make(client, plan(subjects))
    bucket = await client.jetstream().key_value(subjects.state_bucket)
    key = subjects.state_key("worker", "k 1")
    revision = await bucket.create(key, b"1")
    await bucket.update(key, b"2", last=revision)
    assert (await bucket.get(key)).value == b"2"


async def test_a_session_that_ends_leaves_a_marker_for_those_who_watch(client: Client, subjects: Subjects) -> None:
    await make(client, plan(subjects))
    stream = client.jetstream()
    subject = subjects.bucket_subject(subjects.leases_bucket, subjects.lease_key("web", "s1"))
    watcher = await stream.subscribe(subject, ordered_consumer=True)
    await client.request(subject, b"{}", headers={"Nats-TTL": "1s"})
    assert (await watcher.next_msg(5)).data == b"{}"
    marker = await watcher.next_msg(10)
    assert marker.headers is not None
    assert marker.headers["Nats-Marker-Reason"] == "MaxAge"
    await watcher.unsubscribe()


async def test_a_schedule_fires_into_the_stream_of_schedules(client: Client, subjects: Subjects) -> None:
    await make(client, plan(subjects))
    headers = {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": subjects.due("s1")}
    firings = await client.jetstream().pull_subscribe_bind(subjects.forward_consumer, subjects.schedules_stream)
    answer = json.loads((await client.request(subjects.schedule("s1"), b"x", headers=headers)).data)
    assert "error" not in answer
    (firing,) = await firings.fetch(1, timeout=10)
    assert (firing.subject, firing.data) == (subjects.due("s1"), b"x")
    await firing.ack()
