"""Faults of published events that runtimes of this kind are known to have. Each number is that of one fault."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
from nats.aio.client import Client
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from broker.conftest import NewRuntime
from broker.processes import TOPIC_TYPE, AgentProcesses, Note
from broker.scripted import Counter, Gate, Number, Scripted, agent_at, serve, until
from broker.stored import dead_letters
from hivewire import (
    AgentId,
    DefaultTopicId,
    MessageContext,
    MessageHandlerContext,
    RetryPolicy,
    TopicId,
    TypePrefixSubscription,
    TypeSubscription,
    UndeliverableException,
    handles,
)
from hivewire.nats.parking import KEY_WINDOW
from hivewire.nats.subjects import Subjects

TOPIC = TopicId("t", "k")
ANYONE = AgentId("agent", "k")


async def test_row_20_an_event_waits_for_a_worker_that_is_down(new_runtime: NewRuntime) -> None:
    first, second, publisher = new_runtime(), new_runtime(), new_runtime()
    await serve(first, "agent")
    await first.start()
    await first.stop()
    await publisher.connect()
    await publisher.publish_message("stored", TOPIC)
    await serve(second, "agent")
    await second.start()
    agent = await agent_at(second, "agent")
    await until(lambda: agent.seen == ["stored"])


async def test_row_20_events_wait_while_every_worker_is_dead(
    new_runtime: NewRuntime, processes: AgentProcesses
) -> None:
    (killed,) = await processes.start()
    publisher = await new_runtime().connect()
    killed.kill()
    for number in range(20):
        await publisher.publish_message(Note(number), TopicId(TOPIC_TYPE, f"k{number}"))
    await processes.start()
    await processes.journal.reaches(20)
    assert processes.journal.numbers("event") == list(range(20))


async def test_row_21_an_event_without_sender_has_no_sender(new_runtime: NewRuntime) -> None:
    worker, publisher = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.start()
    await publisher.connect()
    await publisher.publish_message("hello", TOPIC)
    agent = await agent_at(worker, "agent")
    await until(lambda: agent.contexts)
    assert agent.contexts[0].sender is None
    assert agent.contexts[0].topic_id == TOPIC
    assert not agent.contexts[0].is_rpc


async def test_row_22_the_context_is_set_in_every_handler(new_runtime: NewRuntime) -> None:
    noted: list[Any] = []

    async def note(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        noted.append((MessageHandlerContext.agent_id(), DefaultTopicId().source))

    worker, publisher = new_runtime(), new_runtime()
    await serve(worker, "agent", note)
    await worker.start()
    await publisher.connect()
    await publisher.send_message("call", ANYONE)
    await publisher.publish_message("event", TOPIC)
    await until(lambda: len(noted) == 2)
    assert noted == [(ANYONE, "k")] * 2


@pytest.mark.parametrize("row", ["23 over the wire", "47 in one process"])
async def test_row_23_and_47_a_recipient_that_cannot_be_built_takes_nothing_from_the_others(
    new_runtime: NewRuntime, row: str
) -> None:
    def cannot() -> Scripted:
        raise ValueError("boom")

    worker = new_runtime()
    publisher = worker if "one process" in row else new_runtime()
    await serve(worker, "first")
    await worker.register_factory("broken", cannot)
    await worker.add_subscription(TypeSubscription("t", "broken"))
    await serve(worker, "last")
    await worker.start()
    if publisher is not worker:
        await publisher.connect()
    for number in range(3):
        await publisher.publish_message(number, TOPIC)
    first, last = await agent_at(worker, "first"), await agent_at(worker, "last")
    await until(lambda: first.seen == last.seen == [0, 1, 2])


async def test_row_23_a_recipient_that_cannot_be_built_is_tried_again_and_then_its_events_are_dead_letters(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    class Impatient(Scripted):
        retry_policy = RetryPolicy(attempts=3, first_delay_s=0.05)

    tried = 0

    def cannot() -> Impatient:
        nonlocal tried
        tried += 1
        raise ValueError("boom")

    worker = new_runtime()
    await Impatient.register(worker, "broken", cannot)
    await worker.add_subscription(TypeSubscription("t", "broken"))
    await serve(worker, "other")
    await worker.start()
    for number in range(3):
        await worker.publish_message(number, TOPIC)
    letters = await dead_letters(client, namespace, at_least=3)
    other = await agent_at(worker, "other")
    await until(lambda: other.seen == [0, 1, 2])
    assert sorted(letter.payload for letter in letters) == [b"0", b"1", b"2"]
    assert {(letter.agent, letter.error, letter.message, letter.attempts) for letter in letters} == {
        (AgentId("broken", "k"), "ValueError", "boom", 3)
    }
    assert tried == 9
    assert all("in cannot" in letter.traceback for letter in letters)


async def test_row_25_the_message_id_of_the_publisher_reaches_the_handler(new_runtime: NewRuntime) -> None:
    worker, publisher = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.start()
    await publisher.connect()
    await publisher.publish_message("hello", TOPIC, message_id="order 7/ä")
    await publisher.publish_message("hello", TOPIC)
    agent = await agent_at(worker, "agent")
    await until(lambda: len(agent.contexts) == 2)
    assert agent.contexts[0].message_id == "order 7/ä"
    assert agent.contexts[1].message_id


@pytest.mark.parametrize("cls", [Scripted, Counter])
async def test_row_25_the_message_id_is_the_same_in_each_attempt_and_in_the_dead_letter(
    cls: type[Scripted], new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    ids: list[str] = []

    async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        ids.append(ctx.message_id)
        raise ValueError("boom")

    class Impatient(cls):  # type: ignore[misc, valid-type]
        retry_policy = RetryPolicy(attempts=3, first_delay_s=0.05)

    worker = new_runtime()
    await Impatient.register(worker, "agent", lambda: Impatient(fail))
    await worker.add_subscription(TypeSubscription("t", "agent"))
    await worker.start()
    await worker.publish_message("hello", TOPIC, message_id="order-7")
    (letter,) = await dead_letters(client, namespace, at_least=1)
    assert ids == ["order-7"] * 3
    assert letter.headers["ce-id"] == "order-7"


async def test_row_30_a_slow_consumer_holds_a_bounded_number_of_events_and_its_lag_is_known(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    gate = Gate()
    worker, publisher = new_runtime(), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await publisher.connect()
    await asyncio.gather(*(publisher.publish_message(number, TOPIC) for number in range(1_000)))
    # The rest of the one key waits in the stream.
    await until(lambda: gate.entered == KEY_WINDOW)
    agent = await agent_at(worker, "agent")
    subjects = Subjects(namespace)
    positions = await client.jetstream().key_value(subjects.positions_bucket)
    gate.opened.set()
    await until(lambda: len(agent.seen) == 1_000)
    assert gate.most <= KEY_WINDOW
    records = [json.loads((await positions.get(key)).value or b"") for key in await positions.keys()]
    assert sum(record["lag"] for record in records) <= 1_000
    assert sorted(agent.seen) == list(range(1_000))


async def test_row_30_a_full_stream_is_an_error_for_the_publisher_and_drops_nothing(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    gate = Gate()
    worker, publisher = new_runtime(), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await publisher.connect()
    stream = Subjects(namespace).events_stream
    config = json.loads((await client.request(f"$JS.API.STREAM.INFO.{stream}")).data)["config"]
    limited = {**config, "max_bytes": 50_000}
    answer = await client.request(f"$JS.API.STREAM.UPDATE.{stream}", json.dumps(limited).encode())
    assert "error" not in json.loads(answer.data)
    stored = 0
    with pytest.raises(UndeliverableException, match="the event stream is full"):
        for stored in range(1_000):
            await publisher.publish_message(stored, TOPIC)
    gate.opened.set()
    agent = await agent_at(worker, "agent")
    await until(lambda: len(agent.seen) == stored)
    assert stored > 50
    assert agent.seen == list(range(stored))


async def test_row_31_one_trace_goes_through_a_call_its_answer_and_an_event(new_runtime: NewRuntime) -> None:
    async def publish(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        await agent.publish_message("event", TopicId("t", "listener"))
        return message

    exporters = [InMemorySpanExporter(), InMemorySpanExporter()]
    providers = [TracerProvider(), TracerProvider()]
    for provider, exporter in zip(providers, exporters, strict=True):
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    worker, caller = new_runtime(tracer_provider=providers[0]), new_runtime(tracer_provider=providers[1])
    await worker.register_factory("agent", lambda: Scripted(publish))
    await serve(worker, "listener")
    await worker.start()
    await caller.connect()
    await caller.send_message("call", ANYONE)
    listener = await agent_at(worker, "listener", "listener")
    await until(lambda: listener.seen)
    await worker.stop()
    spans = [span for exporter in exporters for span in exporter.get_finished_spans()]
    assert {span.name.split()[1] for span in spans} >= {"create", "process"}
    assert {span.name.split()[2] for span in spans if "process" in span.name} == {
        "agent.(k)-A",
        "listener.(listener)-A",
    }
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1


async def test_row_32_an_event_reaches_subscribers_in_the_same_and_in_another_process(new_runtime: NewRuntime) -> None:
    one, other = new_runtime(), new_runtime()
    await serve(one, "here")
    await serve(other, "there")
    await one.start()
    await other.start()
    await one.publish_message(Number(7), TOPIC)
    here, there = await agent_at(one, "here"), await agent_at(other, "there")
    await until(lambda: here.seen == there.seen == [Number(7)])


async def test_row_32_the_stored_event_has_the_documented_bytes(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    publisher = await new_runtime().connect()
    await publisher.publish_message(
        Number(7), TopicId("task.status", "user 1"), sender=AgentId("a", "b c"), message_id="m1"
    )
    stored = await client.jetstream().get_msg(Subjects(namespace).events_stream, 1)
    assert stored.subject == f"{namespace}.events.2.50.user=201.task.status"
    assert stored.data == b'{"value":7}'
    assert stored.headers == {
        "ce-specversion": "1.0",
        "ce-id": "m1",
        "ce-type": "task.status",
        "ce-source": "user%201",
        "ce-dataschema": "Number",
        "ce-agmsgkind": "publish",
        "ce-agagentsendertype": "a",
        "ce-agagentsenderkey": "b%20c",
        "content-type": "application/json",
        "Nats-Msg-Id": stored.headers["Nats-Msg-Id"],
    }


async def test_row_37_only_the_publishing_agent_itself_is_skipped(new_runtime: NewRuntime) -> None:
    async def publish(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        if ctx.is_rpc:
            await agent.publish_message("news", TopicId("t", "k"))

    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", publish)
    await serve(worker, "neighbour")
    await worker.start()
    await caller.connect()
    await caller.send_message("go", AgentId("agent", "other key"))
    await caller.send_message("go", ANYONE)
    await caller.publish_message("from outside", TopicId("t", "k"))
    agent, neighbour = await agent_at(worker, "agent"), await agent_at(worker, "neighbour")
    await until(lambda: "from outside" in agent.seen and len(neighbour.seen) == 3)
    assert neighbour.seen == ["news", "news", "from outside"]
    assert [context.sender for context in neighbour.contexts] == [AgentId("agent", "other key"), ANYONE, None]
    assert agent.seen == ["news", "go", "from outside"]
    assert (await agent_at(worker, "agent", "other key")).seen == ["go"]


async def test_row_48_idle_means_that_the_slow_handler_is_done_too(new_runtime: NewRuntime) -> None:
    async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        raise ValueError("boom")

    class Final(Scripted):
        retry_policy = RetryPolicy(attempts=1)

    gate = Gate()
    runtime = new_runtime()
    await Final.register(runtime, "fast", lambda: Final(fail))
    await runtime.add_subscription(TypeSubscription("t", "fast"))
    await serve(runtime, "slow", gate)
    await runtime.start()
    await runtime.publish_message("hello", TOPIC)
    idle = asyncio.create_task(runtime.stop_when_idle())
    await until(lambda: gate.entered)
    assert not (await asyncio.wait([idle], timeout=0.2))[0]
    gate.opened.set()
    async with asyncio.timeout(10):
        await idle


async def test_row_54_two_subscriptions_that_match_one_agent_deliver_once(new_runtime: NewRuntime) -> None:
    worker, publisher = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.add_subscription(TypePrefixSubscription("t", "agent"))
    await worker.start()
    await publisher.connect()
    for number in range(3):
        await publisher.publish_message(number, TOPIC)
    agent = await agent_at(worker, "agent")
    await until(lambda: 2 in agent.seen)
    assert agent.seen == [0, 1, 2]


@dataclass
class Basket:
    numbers: list[Number]


@handles(Basket)
class Changing(Scripted):
    async def on_message_impl(self, message: Basket, ctx: MessageContext) -> None:
        message.numbers.append(Number(len(message.numbers)))
        self.seen.append(message)


async def test_row_60_a_change_by_one_recipient_is_seen_by_nobody_else(new_runtime: NewRuntime) -> None:
    runtime = new_runtime()
    for type in ("one", "two"):
        await Changing.register(runtime, type, Changing)
        await runtime.add_subscription(TypeSubscription("t", type))
    await runtime.start()
    published = Basket([])
    await runtime.publish_message(published, TOPIC)
    one, two = await agent_at(runtime, "one"), await agent_at(runtime, "two")
    await until(lambda: one.seen and two.seen)
    assert one.seen == two.seen == [Basket([Number(0)])]
    assert published == Basket([])


SOURCES = ["", "a.b", "*", ">", "a b", "a@b", "é", "\n", "=2E", "x" * 300, "x" * 10_000, "x" * 9_999 + "y", "A.B"]


async def test_row_79_any_string_is_a_source_and_different_ones_never_meet(new_runtime: NewRuntime) -> None:
    noted: list[tuple[str, str]] = []

    async def note(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        noted.append((agent.id.key, message))

    workers, publisher = [new_runtime(), new_runtime()], new_runtime()
    for worker in workers:
        await serve(worker, "agent", note)
        await worker.start()
    await publisher.connect()
    for source in SOURCES:
        await publisher.publish_message(source, TopicId("t", source))
    await until(lambda: len(noted) == len(SOURCES))
    assert sorted(noted) == sorted((source, source) for source in SOURCES)
