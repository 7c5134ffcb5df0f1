"""Messages that are wrong, too large, too late, or of nobody's type."""

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.scripted import Gate, Number, Scripted, agent_at, serve, until
from hivewire import (
    AgentId,
    DeadlineExceededError,
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    SerializationError,
    TopicId,
    TypeSubscription,
    UnknownPayload,
    message_handler,
)
from hivewire.nats.subjects import Subjects

ANYONE = AgentId("agent", "k")
TOPIC = TopicId("t", "k")


@dataclass
class Unheard:
    value: int


class Counts(RoutedAgent):
    @message_handler
    async def on_number(self, message: Number, ctx: MessageContext) -> Number:
        return Number(message.value + 1)


async def both(new_runtime: NewRuntime, **options: Any) -> tuple[NatsAgentRuntime, NatsAgentRuntime]:
    worker, caller = new_runtime(**options), new_runtime(**options)
    await serve(worker, "agent")
    await Counts.register(worker, "counts", Counts)
    await worker.start()
    await caller.connect()
    return worker, caller


async def test_a_message_of_an_unknown_type_is_handed_on_as_it_came(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    worker, _ = await both(new_runtime)
    subject = Subjects(namespace).rpc("agent", "k")
    with pytest.warns(RuntimeWarning, match="'Nowhere'"):
        await client.request(subject, b"{}", headers={"Hw-Type": "Nowhere", "Hw-Left": "5000"}, timeout=5)
    assert (await agent_at(worker, "agent")).seen == [UnknownPayload("Nowhere", "application/json", b"{}")]


async def test_a_message_of_an_unknown_type_is_refused_when_payloads_are_strict(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    worker, _ = await both(new_runtime, strict_payloads=True)
    subject = Subjects(namespace).rpc("agent", "k")
    answer = await client.request(subject, b"{}", headers={"Hw-Type": "Nowhere", "Hw-Left": "5000"}, timeout=5)
    assert json.loads(answer.data)["qualname"] == "SerializationError"
    assert "'Nowhere'" in json.loads(answer.data)["message"]
    assert (await agent_at(worker, "agent")).seen == []


async def test_a_type_that_the_agent_does_not_handle_is_answered_with_none(
    new_runtime: NewRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    _, caller = await both(new_runtime)
    with caplog.at_level(logging.INFO):
        assert await caller.send_message("text", AgentId("counts", "k")) is None
    assert any("Unhandled message: str" in record.getMessage() for record in caplog.records)


BAD_EVENTS: list[tuple[bytes, dict[str, str] | None]] = [
    (b"not JSON", {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "k", "ce-dataschema": "Number"}),
    (b"\xff\x00", None),
    (b"{}", {"ce-id": "no version"}),
    (b"[]", {"content-type": "application/cloudevents+json"}),
    (b"{}", {"ce-specversion": "1.0", "ce-id": "2", "ce-type": "t", "ce-source": "another key"}),
    (b"", {"ce-specversion": "9.0", "ce-id": "3", "ce-type": "t", "ce-source": "k"}),
]


async def test_events_that_cannot_be_read_are_logged_and_do_not_hold_up_the_next_one(
    new_runtime: NewRuntime, client: Client, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker, publisher = await both(new_runtime, strict_payloads=True)
    subject = Subjects(namespace).event("k", "t")
    for payload, headers in BAD_EVENTS:
        answer = await client.request(subject, payload, headers=headers, timeout=5)
        assert "error" not in json.loads(answer.data)
    await publisher.publish_message("good", TOPIC)
    agent = await agent_at(worker, "agent")
    await until(lambda: agent.seen)
    assert agent.seen == ["good"]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == len(BAD_EVENTS)
    assert await publisher.send_message(Number(1), AgentId("counts", "k")) == Number(2)


BAD_REQUESTS: list[tuple[bytes, dict[str, str] | None]] = [
    (b"{", {"Hw-Type": "Number", "Hw-Left": "5000"}),
    (b"\xff", {"Hw-Type": "Number", "Hw-Left": "5000"}),
    (b"1", None),
    (b"1", {"Hw-Type": "int"}),
    (b"1", {"Hw-Left": "1000"}),
    (b"1", {"Hw-Type": "int", "Hw-Left": "soon"}),
    (b"1", {"Hw-Type": "int", "Hw-Left": "-5"}),
    (b"1", {"Hw-Type": "int", "Hw-Left": "1000", "Hw-Op": "explode"}),
    (b"1", {"Hw-Type": "int", "Hw-Left": "1000", "Hw-Key": "another"}),
    (b"1", {"Hw-Type": "int", "Hw-Left": "1000", "Hw-Sender": "no slash"}),
    (b"1", {"Hw-Type": "%FF", "Hw-Left": "1000"}),
]


async def test_requests_that_cannot_be_read_are_answered_with_an_error(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    _, caller = await both(new_runtime)
    subject = Subjects(namespace).rpc("counts", "k")
    for payload, headers in BAD_REQUESTS:
        answer = await client.request(subject, payload, headers=headers, timeout=5)
        assert answer.headers is not None
        assert answer.headers.get("Hw-Status") == "error", headers
        assert json.loads(answer.data)["qualname"] == "SerializationError"
    assert await caller.send_message(Number(1), AgentId("counts", "k")) == Number(2)


async def test_a_request_without_a_subject_for_the_answer_is_logged_and_not_executed(
    new_runtime: NewRuntime, client: Client, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker, caller = await both(new_runtime)
    subject = Subjects(namespace).rpc("agent", "k")
    for payload in (b"{", b"1"):
        await client.publish(subject, payload, headers={"Hw-Type": "int", "Hw-Left": "5000"})
    await until(lambda: sum("names no subject for the reply" in record.getMessage() for record in caplog.records) == 2)
    assert await caller.send_message("good", ANYONE) == "good"
    assert (await agent_at(worker, "agent")).seen == ["good"]


async def test_an_answer_that_cannot_be_read_is_an_error_at_the_caller(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    async def answer_badly(message: Any) -> None:
        await message.respond(b"no headers at all")

    await client.subscribe(Subjects(namespace).rpc("foreign", "k"), cb=answer_badly)
    await client.flush()
    caller = await new_runtime().connect()
    with pytest.raises(SerializationError, match="Cannot decode"):
        await caller.send_message("hello", AgentId("foreign", "k"))


async def test_an_answer_after_the_deadline_reaches_nobody_and_leaves_nothing(new_runtime: NewRuntime) -> None:
    gate = Gate()
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    begun = time.monotonic()
    with pytest.raises(DeadlineExceededError, match=r"timeout of 0\.2 s"):
        await caller.send_message("slow", ANYONE, timeout=0.2)
    assert 0.2 <= time.monotonic() - begun < 1
    gate.opened.set()
    assert await caller.send_message("next", ANYONE) == "next"
    assert len(caller._calls) == 0
    assert caller._broker._waiters == {}


async def test_the_error_of_a_deadline_says_whether_the_call_had_started(new_runtime: NewRuntime) -> None:
    gate = Gate()
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    with pytest.raises(DeadlineExceededError, match=r"timeout of 5 s; it had started"):
        await caller.send_message("slow", ANYONE, timeout=5)
    gate.opened.set()


async def test_a_timeout_that_is_over_at_once_is_a_deadline_error(new_runtime: NewRuntime) -> None:
    worker, caller = await both(new_runtime)
    for timeout in (0, -1):
        with pytest.raises(DeadlineExceededError):
            await caller.send_message("hello", ANYONE, timeout=timeout)
    assert (await agent_at(worker, "agent")).seen == []


async def test_text_that_is_not_unicode_is_refused_where_it_is_given(new_runtime: NewRuntime) -> None:
    _, caller = await both(new_runtime)
    with pytest.raises(ValueError, match="surrogate"):
        await caller.send_message("hello", AgentId("agent", "\ud800"))
    with pytest.raises(ValueError, match="surrogate"):
        await caller.publish_message("hello", TopicId("t", "\ud800"))
    with pytest.raises(ValueError, match="surrogate"):
        await caller.send_message("hello", ANYONE, message_id="\ud800")
    with pytest.raises(ValueError, match="surrogate"):
        await caller.publish_message("hello", TOPIC, sender=AgentId("s", "\ud800"))
    assert await caller.send_message("\ud800 in a message", ANYONE) == "\ud800 in a message"


async def test_a_topic_type_that_is_too_long_is_refused_where_it_is_given(new_runtime: NewRuntime) -> None:
    worker, caller = await both(new_runtime)
    with pytest.raises(ValueError, match="use a shorter topic type"):
        await caller.publish_message("hello", TopicId("x." * 2_000 + "x", "k"))
    with pytest.raises(ValueError, match="use a shorter topic type"):
        await caller.add_subscription(TypeSubscription("x." * 2_000 + "x", "agent"))
    await caller.publish_message("hello", TOPIC)
    agent = await agent_at(worker, "agent")
    await until(lambda: agent.seen == ["hello"])


@pytest.mark.parametrize("agent_type", ["дом", "a.b-c", "x" * 300, "日本.-_"])
async def test_any_agent_type_travels(new_runtime: NewRuntime, agent_type: str) -> None:
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, agent_type)
    await worker.start()
    await caller.connect()
    assert await caller.send_message("hello", AgentId(agent_type, "k")) == "hello"
    await caller.publish_message("event", TOPIC)
    agent: Scripted = await agent_at(worker, agent_type)
    await until(lambda: agent.seen == ["hello", "event"])


async def test_an_error_of_the_factory_does_not_hold_up_later_events_of_the_key(new_runtime: NewRuntime) -> None:
    built = 0

    def factory() -> Scripted:
        nonlocal built
        built += 1
        if built == 1:
            raise LookupError("no model")
        return Scripted()

    runtime = new_runtime()
    await runtime.register_factory("agent", factory)
    await runtime.add_subscription(TypeSubscription("t", "agent"))
    await runtime.start()
    await runtime.publish_message("first", TOPIC)
    await runtime.publish_message("second", TOPIC)
    await until(lambda: built == 2)
    agent = await agent_at(runtime, "agent")
    await until(lambda: agent.seen == ["second"])


async def test_a_slow_answer_of_many_does_not_hold_up_the_others(new_runtime: NewRuntime) -> None:
    gate = Gate()

    async def some_wait(agent: Scripted, message: int, ctx: MessageContext) -> int:
        if message == 0:
            await gate(agent, message, ctx)
        return message

    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", some_wait)
    await worker.start()
    await caller.connect()
    slow = asyncio.create_task(caller.send_message(0, ANYONE))
    await until(lambda: gate.entered)
    assert await asyncio.gather(*(caller.send_message(number, ANYONE) for number in range(1, 50))) == list(range(1, 50))
    assert not slow.done()
    gate.opened.set()
    assert await slow == 0
