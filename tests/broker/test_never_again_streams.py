"""Faults of streams, timers and durability that runtimes of this kind are known to have. Each number is that of one.

Those that need three servers are slow.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.proxy import TcpProxy
from broker.scripted import Counter, Handle, Scripted, serve, until
from broker.stored import api
from chaos.cluster import Cluster
from documents import ROOT
from hivewire import AgentId, MessageContext, TopicId, TypeSubscription
from hivewire.nats import embedded
from hivewire.nats.addressed_bucket import AddressedBucket
from hivewire.nats.broker import Broker
from hivewire.nats.buckets import Bucket, WriteConflictError
from hivewire.nats.stream_reader import StreamReader
from hivewire.nats.subjects import Subjects
from hivewire.nats.tokens import slot
from hivewire.nats.topology import plan


@pytest.fixture
async def cluster(namespace: str) -> AsyncIterator[Cluster]:
    """Three servers, with the streams of the namespace on each."""
    async with Cluster(3) as cluster:
        await cluster.provision(namespace)
        yield cluster


@pytest.mark.slow
async def test_row_76_a_consumer_that_does_not_know_what_the_leader_has_makes_no_reader_skip_it(
    cluster: Cluster, new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer answers from the copy of the stream that its own server has, which lags after an election."""
    keys, events = [f"k{number}" for number in range(16)], 400
    urls = ",".join(node.url for node in cluster.nodes)
    worker, publisher = new_runtime(urls), new_runtime(urls)
    await Counter.register(worker, "agent", Counter)
    await serve(worker, "echo")
    await worker.add_subscription(TypeSubscription("t", "agent"))
    await worker.start()
    await publisher.connect()

    async def says_so(reader: StreamReader) -> bool:
        return True

    monkeypatch.setattr(StreamReader, "is_drained", says_so)
    for number in range(events):
        await publisher.publish_message(number, TopicId("t", keys[number % len(keys)]))
        await worker._serving._readers.follow_end()

    async def counted() -> int:
        states = [await publisher.agent_save_state(AgentId("agent", key)) for key in keys]
        return sum(state["count"] for state in states)

    async with asyncio.timeout(60):
        while await counted() < events:
            await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_row_76_a_leader_that_is_killed_loses_and_doubles_nothing_and_calls_go_on(
    cluster: Cluster, new_runtime: NewRuntime, namespace: str
) -> None:
    keys, events = [f"k{number}" for number in range(16)], 1_500
    leader = await cluster.leader_of(Subjects(namespace).events_stream)
    # What is connected to the server that dies has that to cope with too.
    urls = ",".join(node.url for node in cluster.nodes if node is not leader)
    worker, publisher = new_runtime(urls), new_runtime(urls)
    await Counter.register(worker, "agent", Counter)
    await serve(worker, "echo")
    await worker.add_subscription(TypeSubscription("t", "agent"))
    await worker.start()
    await publisher.connect()
    numbers = iter(range(events))
    published = 0

    async def publish_on() -> None:
        nonlocal published
        for number in numbers:
            await publisher.publish_message(number, TopicId("t", keys[number % len(keys)]))
            published += 1

    publishing = asyncio.gather(*(publish_on() for _ in range(16)))
    await until(lambda: published > events // 10, 60)
    await leader.kill()
    begun = published
    # While nobody leads the stream, agents that store nothing are called as ever.
    for number in range(50):
        assert await publisher.send_message(number, AgentId("echo", f"k{number}")) == number
    await publishing
    assert begun < events, "all was published before the leader died: it says nothing"
    cluster.start(leader)
    await leader.healthy()

    async def counted() -> int:
        states = [await publisher.agent_save_state(AgentId("agent", key)) for key in keys]
        return sum(state["count"] for state in states)

    async with asyncio.timeout(60):
        while await counted() < events:
            await asyncio.sleep(0.1)
    assert await counted() == events
    await publisher.stop()
    await worker.stop()


@pytest.mark.slow
async def test_row_77_the_writer_of_a_value_knows_its_own_write_again_on_three_servers_too(
    cluster: Cluster, namespace: str
) -> None:
    """There the server takes a repeated write for a duplicate, where a single one calls it a conflict."""
    name = Subjects(namespace).state_bucket
    leader = await cluster.leader_of(f"KV_{name}")
    other = next(node for node in cluster.nodes if node is not leader)
    async with TcpProxy(other.url) as proxy:
        behind, broker = Broker(proxy.url, name="behind the proxy"), Broker(leader.url, name="test")
        await behind.open()
        await broker.open()
        proxy.answering = False
        writing = asyncio.create_task(Bucket(behind, name).put("a.b", b"mine", revision=0))
        bucket = Bucket(broker, name)
        async with asyncio.timeout(15):
            while (written := await bucket.get("a.b")).value is None:
                await asyncio.sleep(0.02)
        proxy.answering = True
        proxy.cut()
        assert await writing == written.revision
        with pytest.raises(WriteConflictError):
            await bucket.put("a.b", b"another's", revision=0)
        assert await bucket.get("a.b") == written
        await behind.close()
        await broker.close()


@pytest.mark.slow
async def test_row_77_whoever_reads_a_state_sees_what_was_written_before_whichever_server_answers(
    cluster: Cluster, namespace: str
) -> None:
    """A follower may lag behind. Where it may answer, the leader is asked too; elsewhere none is asked."""
    subjects = Subjects(namespace)
    async with cluster.client() as client:
        for bucket in (subjects.registry_bucket, subjects.leases_bucket, subjects.positions_bucket):
            assert not (await api(client, f"STREAM.INFO.KV_{bucket}"))["config"].get("allow_direct")
    brokers = [Broker(node.url, name="test") for node in cluster.nodes]
    await asyncio.gather(*(broker.open() for broker in brokers))
    buckets = [AddressedBucket(broker, subjects.state_bucket) for broker in brokers]
    seen = [await bucket.get("a.b") for bucket in buckets]
    assert {(entry.value, entry.revision) for entry in seen} == {(None, 0)}
    revision = 0
    for number in range(200):
        value = b"%d" % number
        revision = await buckets[number % 3].put("a.b", value, revision=revision)
        entries = await asyncio.gather(*(bucket.get("a.b") for bucket in buckets))
        assert {(entry.value, entry.revision) for entry in entries} == {(value, revision)}
    await buckets[0].delete("a.b", revision=revision)
    gone = [await bucket.get("a.b") for bucket in buckets]
    assert {entry.value for entry in gone} == {None}
    with pytest.raises(WriteConflictError):
        await buckets[1].put("a.b", b"late", revision=revision)
    await asyncio.gather(*(broker.close() for broker in brokers))


async def test_row_80_a_timer_fires_into_a_stream_where_its_consumer_finds_it(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    """A timer of the broker is stored directly: who subscribes to its subject sees nothing. The firings of schedules
    are read from their stream, through its durable consumer."""
    handled = asyncio.Event()

    async def note(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        handled.set()

    runtime = new_runtime()
    await serve(runtime, "agent", note)
    await runtime.start()
    subjects = Subjects(namespace)
    seen: list[Any] = []

    async def see(message: Any) -> None:
        seen.append(message)

    await client.subscribe(subjects.dues, cb=see)
    await runtime.schedule_message("x", AgentId("agent", "k"), after=0)
    await asyncio.wait_for(handled.wait(), 15)
    assert seen == []
    config = (await api(client, f"STREAM.INFO.{subjects.schedules_stream}"))["config"]
    assert not config.get("max_age")


async def test_row_80_a_worker_that_gains_shards_reads_their_older_events_too(new_runtime: NewRuntime) -> None:
    """A consumer that is given further partitions skips what lies before its place. Each shard has a place of its
    own."""
    handled: dict[str, list[str]] = {"leaving": [], "staying": []}
    gate = asyncio.Event()

    def noting(name: str) -> Handle:
        async def note(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            if name == "leaving":
                await gate.wait()
            handled[name].append(agent.id.key)

        return note

    leaving, staying = new_runtime(drain_timeout=0.2), new_runtime()
    publisher = await new_runtime().connect()
    for name, worker in (("leaving", leaving), ("staying", staying)):
        await serve(worker, "agent", noting(name))
        await worker.start()
    keys = [f"k{number}" for number in range(200)]
    of_leaving = {key for key in keys if leaving._serving.owns("agent", slot(key))}
    assert 0 < len(of_leaving) < len(keys)
    for key in keys:
        await publisher.publish_message("hello", TopicId("t", key))
    # What stays has read to the end of the stream, past all that the other one has left to do.
    await until(lambda: set(handled["staying"]) == set(keys) - of_leaving)
    await leaving.stop()
    assert handled["leaving"] == []
    await until(lambda: set(handled["staying"]) == set(keys), 30)


async def test_row_80_no_stream_takes_atomic_batches(new_runtime: NewRuntime, client: Client, namespace: str) -> None:
    """A server has at most 50 of them open for a stream; none is ever opened."""
    await new_runtime().connect()
    # Not by the server's list of all streams, which has pages and holds those of other tests too.
    own = plan(Subjects(namespace)).streams
    assert len(own) == 8
    for name in own:
        assert not (await api(client, f"STREAM.INFO.{name}"))["config"].get("allow_atomic")


async def test_row_81_the_embedded_server_says_that_it_is_not_made_for_power_loss(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="hivewire.embedded"):
        async with embedded.EmbeddedServer():
            pass
    assert "not made for power loss" in caplog.text
    assert "not made for power loss" in plain(embedded.__doc__ or "")
    assert "not made for power loss" in plain((ROOT / "docs/concepts.md").read_text())


def test_row_81_the_documents_say_how_to_run_servers_that_lose_nothing_at_a_power_loss() -> None:
    guide = (ROOT / "docs/guides/production.md").read_text()
    section = guide[guide.index("## The broker") :].partition("\n## ")[0]
    for said in ("a power failure", "three servers", "sync_interval: always", "--replicas 3"):
        assert said in plain(section)
    assert "docs/guides/production.md" in (ROOT / "README.md").read_text()


def test_row_81_the_brokers_of_the_chaos_runs_are_those_of_production() -> None:
    """On each of three servers, what is acknowledged is on the disk."""
    cluster = Cluster(3)
    assert cluster.replicas == 3
    for node in cluster.nodes:
        assert "sync_interval: always" in node._config([other for other in cluster.nodes if other is not node])


def plain(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())
