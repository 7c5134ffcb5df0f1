"""Faults around the broker that runtimes of this kind are known to have. Each number is that of one fault."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from broker.conftest import NewRuntime
from broker.proxy import TcpProxy
from broker.scripted import Gate, Scripted, agent_at, serve, until
from hivewire import (
    AccessDeniedError,
    AgentId,
    BrokerUnavailableError,
    DeadlineExceededError,
    MessageContext,
    MessageSerializer,
    MessageTooLargeError,
    RuntimeStateError,
    TopicId,
)
from hivewire.nats.addresses import checked_url
from hivewire.nats.broker import Broker
from hivewire.nats.buckets import Bucket, BucketView, WriteConflictError
from hivewire.nats.embedded import EmbeddedServer
from hivewire.nats.provisioner import provision
from hivewire.nats.subjects import Subjects

ANYONE = AgentId("agent", "k")
TOPIC = TopicId("t", "k")


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[Broker]:
    broker = Broker(nats_url, name="test")
    await broker.open()
    yield broker
    await broker.close()


async def test_row_08_a_restart_of_the_server_ends_no_call_in_silence_and_loses_no_event(
    server: EmbeddedServer, new_runtime: NewRuntime
) -> None:
    gate = Gate()
    worker, caller = new_runtime(server.url), new_runtime(server.url)
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    pending = asyncio.create_task(caller.send_message("pending", ANYONE))
    await until(lambda: gate.entered)
    await caller.publish_message("stored", TOPIC)
    server.kill()
    await until(lambda: not caller._broker.connected.is_set())
    published = asyncio.create_task(caller.publish_message("while it is down", TOPIC))
    called = asyncio.create_task(caller.send_message("while it is down", ANYONE))
    await server.restart()
    gate.opened.set()
    assert await pending == "pending"
    await published
    assert await called == "while it is down"
    agent = await agent_at(worker, "agent")
    await until(lambda: len(agent.seen) == 4)
    assert sorted(agent.seen) == ["pending", "stored", "while it is down", "while it is down"]


async def test_row_08_a_broker_that_stays_away_is_an_error_within_the_deadline(
    server: EmbeddedServer, new_runtime: NewRuntime
) -> None:
    gate = Gate()
    runtime = new_runtime(server.url, delivery_timeout=1.0, publish_timeout=1.0)
    await serve(runtime, "agent", gate)
    await runtime.start()
    pending = asyncio.create_task(runtime.send_message("pending", ANYONE))
    await until(lambda: gate.entered)
    server.kill()
    await until(lambda: not runtime._broker.connected.is_set())
    begun = time.monotonic()
    with pytest.raises(BrokerUnavailableError, match="no connection to NATS"):
        await runtime.send_message("new", ANYONE)
    with pytest.raises(BrokerUnavailableError, match="no connection to NATS"):
        await runtime.publish_message("new", TOPIC)
    assert time.monotonic() - begun < 4
    async with asyncio.timeout(10):
        with pytest.raises(BrokerUnavailableError, match="whether it was handled is unknown"):
            await pending
    gate.opened.set()


class BytesSerializer(MessageSerializer[bytes]):
    data_content_type = "application/octet-stream"
    type_name = "bytes"

    def serialize(self, message: bytes) -> bytes:
        return message

    def deserialize(self, payload: bytes) -> bytes:
        return payload


async def test_row_38_bytes_stay_bytes(new_runtime: NewRuntime) -> None:
    worker, caller = new_runtime(), new_runtime()
    for runtime in (worker, caller):
        runtime.add_message_serializer(BytesSerializer())
    await serve(worker, "agent")
    await worker.start()
    await caller.connect()
    message = bytes(range(256))
    assert await caller.send_message(message, ANYONE) == message
    await caller.publish_message(message, TOPIC)
    agent = await agent_at(worker, "agent")
    await until(lambda: agent.seen == [message, message])


def test_row_38_addresses_are_parsed() -> None:
    for url in ("nats://http.example:4222", "tls://nats-http:1,tls://b:2", "nats://u:p@h:1", "wss://h"):
        assert checked_url(url) == url
    assert checked_url("grpc://http-host:50051") == "nats://http-host:50051"
    for url in ("http://host:4222", "host:4222", "nats://", "", "nats://a:1,ftp://b:2"):
        with pytest.raises(ValueError, match="is not a broker address"):
            checked_url(url)


async def test_row_39_no_contents_are_logged_unless_asked_for(
    new_runtime: NewRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        raise ValueError("boom")

    with caplog.at_level(logging.DEBUG):
        worker, caller = new_runtime(), new_runtime()
        await serve(worker, "agent", fail)
        await serve(worker, "quiet")
        await worker.start()
        await caller.connect()
        with pytest.raises(ValueError, match="boom"):
            await caller.send_message("the secret", ANYONE)
        await caller.send_message("the secret", AgentId("quiet", "k"))
        await caller.publish_message("the secret", TOPIC)
        await worker.stop_when_idle()
    assert len(caplog.records) > 5
    assert not [record for record in caplog.records if "the secret" in record.getMessage()]


async def test_row_63_events_go_on_within_two_seconds_of_a_reconnect(
    server: EmbeddedServer, new_runtime: NewRuntime
) -> None:
    runtime = new_runtime(server.url)
    await serve(runtime, "agent")
    await runtime.start()
    await runtime.publish_message("before", TOPIC)
    agent = await agent_at(runtime, "agent")
    await until(lambda: agent.seen == ["before"])
    for number in range(3):
        await server.restart()
        await until(runtime._broker.connected.is_set)
        begun = time.monotonic()
        await runtime.publish_message(number, TOPIC)
        await until(lambda number=number: number in agent.seen)
        assert time.monotonic() - begun <= 2
    assert agent.seen == ["before", 0, 1, 2]


async def test_row_64_headers_count_for_the_limit_and_the_connection_lives_on(
    new_runtime: NewRuntime, namespace: str
) -> None:
    async with EmbeddedServer(config_lines="max_payload: 8KB") as server:
        worker, caller = new_runtime(server.url), new_runtime(server.url)
        await serve(worker, "agent")
        await worker.start()
        await caller.connect()
        refused = 0
        for length in range(7_900, 8_300, 10):
            sender = AgentId("s", "x" * 100)
            try:
                assert await caller.send_message("m" * length, ANYONE, sender=sender) == "m" * length
            except MessageTooLargeError:
                refused += 1
        assert 0 < refused < 40
        # An event leaves room for the story of its failure.
        with pytest.raises(MessageTooLargeError, match=r"takes 8192 bytes in all, less 4096 that are kept"):
            await caller.publish_message("m" * 7_000, TOPIC)
        await caller.publish_message("m" * 3_000, TOPIC)
        assert worker._broker.reconnects == caller._broker.reconnects == 0
        await caller.stop()
        await worker.stop()


async def test_row_64_a_connection_that_the_library_has_closed_for_good_is_made_anew(
    new_runtime: NewRuntime,
) -> None:
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.start()
    await caller.connect()
    for runtime in (worker, caller):
        client = runtime._broker._client
        await client.publish("anything", b"x" * 1_048_576, headers={"more": "than the limit"})
        await until(lambda client=client: client.is_closed)
    assert await caller.send_message("hello", ANYONE) == "hello"
    await caller.publish_message("event", TOPIC)
    agent = await agent_at(worker, "agent")
    await until(lambda: agent.seen == ["hello", "event"])
    assert worker._broker.reconnects == caller._broker.reconnects == 1


async def test_row_65_requests_in_flight_end_with_their_connection(new_runtime: NewRuntime, nats_url: str) -> None:
    async with TcpProxy(nats_url) as proxy:
        runtime = await new_runtime(proxy.url).connect()
        proxy.answering = False
        published = asyncio.create_task(runtime.publish_message("hello", TOPIC))
        requested = asyncio.create_task(runtime._broker.request("nobody", b"", timeout=20))
        await until(lambda: len(runtime._broker._waiters) == 2)
        proxy.answering = True
        proxy.cut()
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailableError, match="broke before the answer"):
            await requested
        await published
        assert time.monotonic() - begun < 2
        await runtime.stop()


async def test_row_65_a_call_that_expired_is_not_executed(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    gate = Gate()
    worker, caller = new_runtime(concurrency="serial"), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    first = asyncio.create_task(caller.send_message("first", ANYONE))
    await until(lambda: gate.entered)
    # A raw client sends no cancel at the deadline, so the worker itself has to look at the clock.
    headers = {"Hw-Type": "str", "Hw-Left": "100"}
    subject = Subjects(namespace).rpc("agent", "k")
    replies: list[Msg] = []

    async def take(message: Msg) -> None:
        # Signs of life come in between.
        if message.data:
            replies.append(message)

    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=take)
    await client.publish(subject, b'"expired"', reply=inbox, headers=headers)
    await until(lambda: worker._serving.turns.running == 2)
    deadline = time.monotonic() + 0.15
    await until(lambda: time.monotonic() >= deadline)
    gate.opened.set()
    assert await first == "first"
    await until(lambda: bool(replies))
    assert json.loads(replies[0].data)["qualname"] == "DeadlineExceededError"
    assert (await agent_at(worker, "agent")).seen == ["first"]


async def test_row_65_a_call_that_its_caller_gave_up_is_dropped(new_runtime: NewRuntime) -> None:
    gate = Gate()
    worker, caller = new_runtime(concurrency="serial"), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    first = asyncio.create_task(caller.send_message("first", ANYONE))
    await until(lambda: gate.entered)
    with pytest.raises(DeadlineExceededError, match=r"timeout of 0\.1 s"):
        await caller.send_message("expired", ANYONE, timeout=0.1)
    await until(lambda: worker._serving.turns.running == 1)
    gate.opened.set()
    assert await first == "first"
    assert (await agent_at(worker, "agent")).seen == ["first"]


async def test_row_65_nothing_is_sent_after_its_deadline(new_runtime: NewRuntime, nats_url: str) -> None:
    worker = new_runtime()
    await serve(worker, "agent")
    await worker.start()
    async with TcpProxy(nats_url) as proxy:
        caller = await new_runtime(proxy.url).connect()
        proxy.refuse()
        await until(lambda: not caller._broker.connected.is_set())
        calls = [asyncio.create_task(caller.send_message(number, ANYONE, timeout=0.3)) for number in range(100)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} <= {BrokerUnavailableError, DeadlineExceededError}
        await proxy.listen()
        assert await caller.send_message("after", ANYONE) == "after"
        await caller.stop()
    assert (await agent_at(worker, "agent")).seen == ["after"]


async def test_row_66_what_the_broker_refuses_is_an_error_that_names_the_subject(new_runtime: NewRuntime) -> None:
    users = """
        authorization { users = [
            { user: worker, password: w }
            { user: caller, password: c, permissions: { publish: { deny: ["*.rpc.Secret.>", "*.event.*.Closed.>"] } } }
        ] }
    """
    async with EmbeddedServer(config_lines=users) as server:
        worker = new_runtime(server.url.replace("//", "//worker:w@"))
        caller = new_runtime(server.url.replace("//", "//caller:c@"))
        await serve(worker, "Secret")
        await serve(worker, "agent")
        await worker.start()
        await caller.connect()
        begun = time.monotonic()
        with pytest.raises(AccessDeniedError, match=r"rpc\.Secret\."):
            await caller.send_message("hello", AgentId("Secret", "k"))
        with pytest.raises(AccessDeniedError, match=r"event\.k\.Closed\.x"):
            await caller.publish_message("hello", TopicId("Closed.x", "k"))
        assert time.monotonic() - begun < 2
        assert await caller.send_message("hello", ANYONE) == "hello"
        await caller.stop()
        await worker.stop()


async def test_row_66_a_refused_subscription_is_an_error_record(
    new_runtime: NewRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    users = 'authorization { users = [ { user: u, password: p, permissions: { subscribe: { deny: "*.rpc.>" } } } ] }'
    async with EmbeddedServer(config_lines=users) as server:
        runtime = new_runtime(server.url.replace("//", "//u:p@"))
        await serve(runtime, "agent")
        await runtime.start()
        refused = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert any("NATS refused a subscription to" in record.getMessage() for record in refused)
        await runtime.stop()


async def test_row_67_a_message_that_the_client_drops_is_an_error_record_and_counted(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()
    handled = []

    async def wait(message: Any) -> None:
        await gate.wait()
        handled.append(message.data)

    subscription = await broker.subscribe("flood", wait)
    (live,) = subscription._live.values()
    live._pending_queue = asyncio.Queue(maxsize=10)
    for number in range(50):
        await broker.publish("flood", b"%d" % number)
    await broker.flush()
    gate.set()
    await until(lambda: len(handled) >= 10)
    assert broker.dropped == 50 - len(handled)
    assert any(
        record.levelno == logging.ERROR and "flood" in record.getMessage() and "dropped" in record.getMessage()
        for record in caplog.records
    )


async def test_row_69_a_stream_that_captures_direct_messages_is_found_at_the_start(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    stream = await client.jetstream().add_stream(name=f"AUDIT_{namespace}", subjects=[f"{namespace}.rpc.agent.>"])
    with pytest.raises(RuntimeStateError, match=f"AUDIT_{namespace} captures the direct messages"):
        await new_runtime().connect()
    await client.jetstream().delete_stream(stream.config.name)
    await new_runtime().connect()


@pytest.mark.slow
async def test_row_71_a_broker_that_stands_still_is_found_within_thirty_seconds(
    server: EmbeddedServer, new_runtime: NewRuntime
) -> None:
    gate = Gate()
    seen: list[str] = []

    async def note(agent: Scripted, message: str, ctx: MessageContext) -> Any:
        seen.append(message)
        return await gate(agent, message, ctx)

    runtime = new_runtime(server.url, default_timeout=60.0)
    await serve(runtime, "agent", note)
    await runtime.start()
    call = asyncio.create_task(runtime.send_message("hello", ANYONE))
    await until(lambda: gate.entered)
    server.pause()
    begun = time.monotonic()
    async with asyncio.timeout(30):
        with pytest.raises((BrokerUnavailableError, ConnectionError)):
            await call
    await until(lambda: not runtime._broker.connected.is_set(), 35)
    assert time.monotonic() - begun <= 30
    server.resume()
    gate.opened.set()
    assert await runtime.send_message("again", ANYONE) == "again"
    await runtime.publish_message("event", TOPIC)
    # By several objects, as an agent whose session was lost is built again.
    await until(lambda: seen == ["hello", "again", "event"])
    await runtime.stop()


async def test_row_76_a_restart_of_the_only_server_loses_and_doubles_nothing(
    server: EmbeddedServer, new_runtime: NewRuntime
) -> None:
    worker, publisher = new_runtime(server.url), new_runtime(server.url)
    await serve(worker, "agent")
    await worker.start()
    await publisher.connect()
    numbers = iter(range(2_000))

    async def publish_on() -> None:
        for number in numbers:
            await publisher.publish_message(number, TopicId("t", f"k{number % 16}"))

    publishing = asyncio.gather(*(publish_on() for _ in range(16)))
    for break_it in (lambda: None, server.kill):
        await asyncio.sleep(0.1)
        break_it()
        await server.restart()
    await publishing
    agents = [await agent_at(worker, "agent", f"k{key}") for key in range(16)]
    await until(lambda: sum(len(agent.seen) for agent in agents) >= 2_000)
    assert sorted(number for agent in agents for number in agent.seen) == list(range(2_000))
    await publisher.stop()
    await worker.stop()


async def test_row_77_the_writer_of_a_value_knows_its_own_write_again(
    nats_url: str, broker: Broker, namespace: str
) -> None:
    subjects = Subjects(namespace)
    await provision(broker, subjects)
    async with TcpProxy(nats_url) as proxy:
        behind = Broker(proxy.url, name="behind the proxy")
        await behind.open()
        proxy.answering = False
        writing = asyncio.create_task(Bucket(behind, subjects.state_bucket).put("a.b", b"mine", revision=0))
        bucket = Bucket(broker, subjects.state_bucket)
        view = BucketView(bucket)
        watching = asyncio.create_task(view.run())
        await until(lambda: view.entries)
        written = view.entries["a.b"]
        watching.cancel()
        proxy.answering = True
        proxy.cut()
        assert await writing == written.revision
        await behind.close()
    with pytest.raises(WriteConflictError):
        await bucket.put("a.b", b"another's", revision=0)
    assert await bucket.get("a.b") == written


async def test_row_78_a_key_that_expired_is_absent_and_can_be_made_again_at_once(
    broker: Broker, namespace: str
) -> None:
    subjects = Subjects(namespace)
    await provision(broker, subjects)
    bucket = Bucket(broker, subjects.leases_bucket)
    view = BucketView(bucket)
    watching = asyncio.create_task(view.run())
    revision = await bucket.put("d.s", b"1", revision=0, ttl_s=1)
    await until(lambda: view.entries)
    await until(lambda: not view.entries)
    gone = await bucket.get("d.s")
    assert gone.value is None
    assert gone.revision > revision
    await bucket.put("d.s", b"2", revision=gone.revision, ttl_s=10)
    assert (await bucket.get("d.s")).value == b"2"
    await bucket.delete("d.s", revision=(await bucket.get("d.s")).revision, ttl_s=10)
    gone = await bucket.get("d.s")
    assert gone.value is None
    await bucket.put("d.s", b"3", revision=gone.revision)
    await until(lambda: {key: entry.value for key, entry in view.entries.items()} == {"d.s": b"3"})
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
