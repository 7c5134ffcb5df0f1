"""Faults of direct messages that runtimes of this kind are known to have. Each number is that of one fault."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from nats.aio.client import Client
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel

from broker.conftest import NewRuntime
from broker.processes import TYPE, AgentProcesses, Ask
from broker.proxy import TcpProxy
from broker.scripted import Gate, Number, Scripted, agent_at, serve, until
from hivewire import (
    AgentId,
    AgentNotFoundError,
    CancellationToken,
    CantHandleException,
    ClosureAgent,
    ClosureContext,
    DefaultInterventionHandler,
    DropMessage,
    MessageContext,
    MessageDroppedException,
    MessageSerializer,
    MessageTooLargeError,
    NatsAgentRuntime,
    RemoteAgentError,
    RoutedAgent,
    RuntimeStateError,
    SerializationError,
    TopicId,
    UndeliverableException,
    UnknownPayload,
    WorkerLostError,
    event,
    handles,
    message_handler,
    register_exception,
)
from hivewire.nats.envelope import decode_reply
from hivewire.nats.subjects import Subjects

ANYONE = AgentId("agent", "k")


async def test_row_01_a_call_to_a_type_that_nobody_serves_ends_with_agent_not_found(new_runtime: NewRuntime) -> None:
    caller = await new_runtime().connect()
    async with asyncio.timeout(15):
        with pytest.raises(AgentNotFoundError, match=r"^Recipient not found"):
            await caller.send_message("hello", AgentId("nobody", "k"))


async def test_row_02_a_handler_that_returns_none_answers_none(new_runtime: NewRuntime) -> None:
    async def nothing(agent: Scripted, message: Any, ctx: MessageContext) -> None: ...

    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", nothing)
    await worker.start()
    await caller.connect()
    assert await caller.send_message("hello", ANYONE) is None


class NoMessage:
    pass


async def test_row_03_an_answer_that_nothing_serializes_is_an_error_at_the_caller(new_runtime: NewRuntime) -> None:
    async def answer(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        return NoMessage() if message == "bad" else 1

    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", answer)
    await worker.start()
    await caller.connect()
    with pytest.raises(SerializationError, match="NoMessage"):
        await caller.send_message("bad", ANYONE)
    assert await caller.send_message("good", ANYONE) == 1


@pytest.mark.parametrize("is_async", [False, True])
async def test_row_04_an_error_of_the_factory_reaches_the_caller_and_the_next_call_builds_again(
    new_runtime: NewRuntime, is_async: bool
) -> None:
    built = 0

    def factory() -> Scripted:
        nonlocal built
        built += 1
        if built == 1:
            raise LookupError("no model")
        return Scripted()

    async def async_factory() -> Scripted:
        await asyncio.sleep(0)
        return factory()

    worker, caller = new_runtime(), new_runtime()
    await worker.register_factory("agent", async_factory if is_async else factory)
    await worker.start()
    await caller.connect()
    with pytest.raises(LookupError, match="no model"):
        await caller.send_message("hello", ANYONE)
    assert await caller.send_message("hello", ANYONE) == "hello"
    assert built == 2


class Counts(RoutedAgent):
    @message_handler
    async def on_number(self, message: Number, ctx: MessageContext) -> Number:
        return Number(message.value + 1)


@pytest.mark.parametrize("payload", [b"{", b'"text"', b'{"value": []}', b"\xff"])
async def test_row_05_a_request_that_cannot_be_decoded_is_answered_with_what_was_expected(
    new_runtime: NewRuntime, client: Client, namespace: str, payload: bytes
) -> None:
    worker = new_runtime()
    await Counts.register(worker, "agent", Counts)
    await worker.start()
    headers = {"Hw-Type": "Number", "Hw-Left": "5000"}
    answer = await client.request(Subjects(namespace).rpc("agent", "k"), payload, headers=headers, timeout=5)
    assert decode_reply(answer.headers, answer.data).status == "error"
    error = json.loads(answer.data)
    assert error["qualname"] == "SerializationError"
    assert "Number" in error["message"]
    assert "application/json" in error["message"]


async def test_row_06_a_killed_worker_is_found_within_ten_seconds(
    new_runtime: NewRuntime, processes: AgentProcesses
) -> None:
    (process,) = await processes.start()
    caller = await new_runtime().connect()
    agent = AgentId(TYPE, "k")
    call = asyncio.create_task(caller.send_message(Ask(seconds=60), agent, timeout=60))
    assert (await caller.send_message(Ask(), agent)).pid == process.pid
    process.kill()
    async with asyncio.timeout(10):
        with pytest.raises(WorkerLostError, match="no sign of life"):
            await call


async def test_row_07_each_of_ten_processes_gets_the_right_answer_to_each_of_its_calls(
    processes: AgentProcesses, nats_url: str, namespace: str
) -> None:
    await processes.start()
    command = [sys.executable, "-m", "broker.callers", nats_url, namespace, "1000"]
    tests = Path(__file__).parents[1]
    callers = [
        subprocess.Popen([*command, str(number)], cwd=tests, stdout=subprocess.PIPE, text=True) for number in range(10)
    ]
    try:
        outputs = await asyncio.gather(*(asyncio.to_thread(caller.communicate, timeout=60) for caller in callers))
    finally:
        for each in callers:
            each.kill()
    assert [output for output, _ in outputs] == ["1000 right, 0 wrong\n"] * 10
    assert processes.journal.numbers("call") == sorted([*range(1000)] * 10)


async def test_row_09_a_message_that_is_too_large_is_refused_and_the_next_one_arrives(new_runtime: NewRuntime) -> None:
    async def answer(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        return "x" * message if isinstance(message, int) else len(message)

    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", answer)
    await worker.start()
    await caller.connect()
    for _ in range(2):
        with pytest.raises(MessageTooLargeError, match="takes 1048576 bytes in all"):
            await caller.send_message("x" * 1_100_000, ANYONE)
        with pytest.raises(MessageTooLargeError, match="takes 1048576 bytes in all"):
            await caller.send_message(1_100_000, ANYONE)
        assert await caller.send_message("x" * 900_000, ANYONE) == 900_000
    assert caller._broker.reconnects == worker._broker.reconnects == 0


async def test_row_10_stopping_ends_the_own_calls_that_wait(new_runtime: NewRuntime) -> None:
    gate = Gate()
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.start()
    call = asyncio.create_task(caller.send_message("hello", ANYONE))
    await until(lambda: gate.entered)
    await caller.stop()
    with pytest.raises(RuntimeStateError, match="stopped while the call waited"):
        await call
    gate.opened.set()


@register_exception
class QuotaError(Exception):
    def __init__(self, model: str, left: int) -> None:
        super().__init__(model, left)
        self.left = left


class UnregisteredError(Exception):
    pass


class LockedError(Exception):
    """Can neither be pickled nor be written as JSON."""

    def __init__(self) -> None:
        super().__init__("locked", threading.Lock())
        self.lock = threading.Lock()


ERRORS: dict[str, Callable[[], BaseException]] = {
    "built-in": lambda: KeyError("boom", 7),
    "hivewire": lambda: SerializationError("no"),
    "registered": lambda: QuotaError("large", 3),
    "unregistered": lambda: UnregisteredError("no class"),
    "unpicklable": LockedError,
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "empty": ValueError,
    "cancelled": asyncio.CancelledError,
}


async def error_of(new_runtime: NewRuntime, name: str) -> BaseException:
    async def fail(agent: Scripted, message: str, ctx: MessageContext) -> None:
        raise ERRORS[message]()

    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", fail)
    await worker.start()
    await caller.connect()
    try:
        await caller.send_message(name, ANYONE)
    except BaseException as error:
        return error
    raise AssertionError("no error")


@pytest.mark.parametrize("name", ["built-in", "hivewire", "registered"])
async def test_row_11_errors_of_known_classes_come_back_as_themselves(new_runtime: NewRuntime, name: str) -> None:
    expected = ERRORS[name]()
    error = await error_of(new_runtime, name)
    assert type(error) is type(expected)
    assert error.args == expected.args
    assert getattr(error, "left", None) == getattr(expected, "left", None)


@pytest.mark.parametrize(
    ("name", "type_name", "text"),
    [
        ("unregistered", "UnregisteredError", "no class"),
        ("unpicklable", "LockedError", "locked"),
        ("exit", "SystemExit", "3"),
        ("interrupt", "KeyboardInterrupt", ""),
    ],
)
async def test_row_11_errors_of_other_classes_come_back_as_a_remote_error(
    new_runtime: NewRuntime, name: str, type_name: str, text: str
) -> None:
    error = await error_of(new_runtime, name)
    assert isinstance(error, RemoteAgentError)
    assert error.type_name.endswith(type_name)
    assert text in error.message
    assert error.agent_id == "agent/k"
    assert "in fail" in error.remote_traceback


async def test_row_11_a_handler_that_raises_cancelled_gives_the_caller_cancelled(new_runtime: NewRuntime) -> None:
    assert isinstance(await error_of(new_runtime, "cancelled"), asyncio.CancelledError)


async def test_row_12_an_error_with_an_empty_text_is_an_error(new_runtime: NewRuntime) -> None:
    error = await error_of(new_runtime, "empty")
    assert type(error) is ValueError
    assert str(error) == ""


async def test_row_13_an_answer_of_an_unknown_type_warns_or_is_refused(new_runtime: NewRuntime) -> None:
    @dataclass
    class Unheard:
        value: int

    async def answer(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        return Unheard(1) if message == "unheard" else Number(1)

    worker, caller, strict = new_runtime(), new_runtime(), new_runtime(strict_payloads=True)
    await serve(worker, "agent", answer)
    await worker.start()
    await caller.connect()
    await strict.connect()
    with pytest.warns(RuntimeWarning, match="Unheard"):
        assert await caller.send_message("unheard", ANYONE) == UnknownPayload(
            "Unheard", "application/json", b'{"value":1}'
        )
    with pytest.raises(SerializationError, match="Unheard"):
        await strict.send_message("unheard", ANYONE)


async def test_row_13_an_answer_whose_class_was_sent_before_is_known(new_runtime: NewRuntime) -> None:
    worker, caller = new_runtime(), new_runtime(strict_payloads=True)
    await serve(worker, "agent")
    await worker.start()
    await caller.connect()
    assert await caller.send_message(Number(1), ANYONE) == Number(1)


class Model(BaseModel):
    names: list[str]
    best: Number | None = None


@dataclass
class Basket:
    numbers: list[Number]
    best: "Number | None" = None
    notes: dict[str, Number] = field(default_factory=dict)


@handles(Model)
@handles(Basket)
class Declaring(Scripted):
    pass


SENDABLE = ["text", 1, 1.5, True, None, {"a": [1, None]}, [1, "b"], Number(1), Model(names=["a"], best=Number(2))]


@pytest.mark.parametrize("message", [*SENDABLE, StringValue(value="x")], ids=lambda message: type(message).__name__)
async def test_row_14_message_classes_need_no_registration(new_runtime: NewRuntime, message: Any) -> None:
    worker, caller = new_runtime(), new_runtime()
    await Declaring.register(worker, "agent", Declaring)
    await worker.start()
    await caller.connect()
    answer = await caller.send_message(message, ANYONE)
    assert answer == message
    assert type(answer) is type(message)
    assert (await agent_at(worker, "agent")).seen == [message]


async def test_row_14_a_message_that_nothing_serializes_is_refused_before_it_is_sent(new_runtime: NewRuntime) -> None:
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.start()
    await caller.connect()
    with pytest.raises(SerializationError, match="NoMessage"):
        await caller.send_message(NoMessage(), ANYONE)
    with pytest.raises(SerializationError, match="NoMessage"):
        await caller.publish_message(NoMessage(), TopicId("t", "k"))
    assert (await agent_at(worker, "agent")).seen == []


class Versioned:
    """A serializer whose type name is not the name of the class."""

    data_content_type = "text/plain"
    type_name = "number_v1"

    def serialize(self, message: Number) -> bytes:
        return str(message.value).encode()

    def deserialize(self, payload: bytes) -> Number:
        return Number(int(payload))


async def test_row_15_a_serializer_may_name_the_type_as_it_likes(new_runtime: NewRuntime) -> None:
    class NumberSerializer(Versioned, MessageSerializer[Number]):
        pass

    worker, caller = new_runtime(), new_runtime()
    await Counts.register(worker, "agent", Counts)
    for runtime in (worker, caller):
        runtime.add_message_serializer(NumberSerializer())
    await worker.start()
    await caller.connect()
    assert caller._serializers.encode(Number(1)).type_name == "number_v1"
    assert await caller.send_message(Number(1), ANYONE) == Number(2)


async def test_row_16_protobuf_travels_in_calls_and_in_events(new_runtime: NewRuntime) -> None:
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.start()
    await caller.connect()
    message = StringValue(value="x")
    assert await caller.send_message(message, ANYONE) == message
    await caller.publish_message(message, TopicId("t", "k"))
    agent = await agent_at(worker, "agent")
    await until(lambda: len(agent.seen) == 2)
    assert agent.seen == [message, message]


@pytest.mark.parametrize("by", ["token", "task"])
async def test_row_24_cancelling_ends_the_call_at_once_and_reaches_the_handler(
    new_runtime: NewRuntime, by: str
) -> None:
    gate = Gate()
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    token = CancellationToken()
    call = asyncio.create_task(caller.send_message("hello", ANYONE, cancellation_token=token))
    await until(lambda: gate.entered)
    handler_token = (await agent_at(worker, "agent")).contexts[0].cancellation_token
    assert not handler_token.is_cancelled
    if by == "token":
        token.cancel()
    else:
        call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: handler_token.is_cancelled)
    gate.opened.set()


@pytest.mark.parametrize("by", ["token", "task"])
async def test_row_24_and_51_a_cancelled_call_that_has_not_started_is_dropped(new_runtime: NewRuntime, by: str) -> None:
    gate = Gate()
    worker, caller = new_runtime(concurrency="serial"), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    first = asyncio.create_task(caller.send_message("first", ANYONE))
    await until(lambda: gate.entered)
    token = CancellationToken()
    waiting = asyncio.create_task(caller.send_message("waiting", ANYONE, cancellation_token=token))
    await until(lambda: worker._serving.turns.running == 2)
    if by == "token":
        token.cancel()
    else:
        waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: worker._serving.turns.running == 1)
    gate.opened.set()
    assert await first == "first"
    assert await caller.send_message("last", ANYONE) == "last"
    assert (await agent_at(worker, "agent")).seen == ["first", "last"]


async def test_row_25_the_message_id_of_the_caller_reaches_the_handler(new_runtime: NewRuntime) -> None:
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.start()
    await caller.connect()
    for message_id in ("order 7/ä", None, None):
        await caller.send_message("hello", ANYONE, message_id=message_id)
    given, *made = [context.message_id for context in (await agent_at(worker, "agent")).contexts]
    assert given == "order 7/ä"
    assert len({*made, ""}) == 3


@pytest.mark.parametrize("seconds", [7.2, pytest.param(60.5, marks=pytest.mark.slow)])
async def test_row_33_a_handler_that_takes_long_answers_with_default_settings(
    nats_url: str, namespace: str, seconds: float
) -> None:
    async def wait(agent: Scripted, message: float, ctx: MessageContext) -> str:
        await asyncio.sleep(message)
        return "done"

    worker = NatsAgentRuntime(nats_url, namespace=namespace)
    await serve(worker, "agent", wait)
    async with worker, NatsAgentRuntime(nats_url, namespace=namespace) as caller:
        assert await caller.send_message(seconds, ANYONE) == "done"


async def test_row_34_none_and_errors_come_back_as_they_are(new_runtime: NewRuntime) -> None:
    async def answer(agent: Scripted, message: str, ctx: MessageContext) -> None:
        if message == "key":
            raise KeyError("boom")
        if message == "value":
            raise ValueError()

    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", answer)
    await worker.start()
    await caller.connect()
    assert await caller.send_message("nothing", ANYONE) is None
    with pytest.raises(KeyError) as key_error:
        await caller.send_message("key", ANYONE)
    assert key_error.value.args == ("boom",)
    with pytest.raises(ValueError) as value_error:
        await caller.send_message("value", ANYONE)
    assert type(value_error.value) is ValueError
    assert value_error.value.args == ()


async def test_row_35_a_registered_instance_is_reached_from_any_process(new_runtime: NewRuntime) -> None:
    owner, other, caller = new_runtime(), new_runtime(), new_runtime()
    one, two = Scripted(), Scripted()
    await owner.register_agent_instance(one, AgentId("instance", "one"))
    await other.register_agent_instance(two, AgentId("instance", "two"))
    await owner.start()
    await other.start()
    await caller.connect()
    for key in ("one", "two"):
        assert await caller.send_message(key, AgentId("instance", key)) == key
    assert (one.seen, two.seen) == (["one"], ["two"])
    with pytest.raises(AgentNotFoundError, match="no process has this instance"):
        await caller.send_message("three", AgentId("instance", "three"))


async def test_row_36_a_worker_whose_connection_ends_is_lost_and_serves_again_when_it_is_back(
    new_runtime: NewRuntime, nats_url: str
) -> None:
    gate = Gate()
    caller = await new_runtime().connect()
    async with TcpProxy(nats_url) as proxy:
        worker = new_runtime(proxy.url)
        await serve(worker, "agent", gate)
        await worker.start()
        call = asyncio.create_task(caller.send_message("hello", ANYONE))
        await until(lambda: gate.entered)
        proxy.refuse()
        async with asyncio.timeout(10):
            with pytest.raises(WorkerLostError):
                await call
        await proxy.listen()
        gate.opened.set()
        assert await caller.send_message("again", ANYONE) == "again"
        await worker.stop()


async def test_row_40_not_found_is_undeliverable_and_a_lookup_error(new_runtime: NewRuntime) -> None:
    caller = await new_runtime().connect()
    with pytest.raises(AgentNotFoundError, match=r"^Recipient not found") as caught:
        await caller.send_message("hello", AgentId("nobody", "k"), timeout=0.1)
    assert isinstance(caught.value, UndeliverableException)
    assert isinstance(caught.value, LookupError)


class AddOne(DefaultInterventionHandler):
    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        return Number(message.value + 1)


class Forget(DefaultInterventionHandler):
    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        return None


class Refuse(DefaultInterventionHandler):
    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        return DropMessage("not today") if message == Number(1) else message

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        return DropMessage("no answer") if message == Number(2) else message


async def test_row_45_interventions_chain_and_none_leaves_the_message_as_it_is(new_runtime: NewRuntime) -> None:
    worker, twice, forgetful = (
        new_runtime(),
        new_runtime(intervention_handlers=[AddOne(), AddOne()]),
        new_runtime(intervention_handlers=[Forget()]),
    )
    await serve(worker, "agent")
    await worker.start()
    await twice.connect()
    await forgetful.connect()
    assert await twice.send_message(Number(1), ANYONE) == Number(3)
    with pytest.warns(RuntimeWarning, match="None"):
        assert await forgetful.send_message(Number(1), ANYONE) == Number(1)


async def test_row_44_a_dropped_call_or_answer_is_an_error_and_leaves_the_runtime_idle(new_runtime: NewRuntime) -> None:
    runtime = new_runtime(intervention_handlers=[Refuse()])
    await serve(runtime, "agent")
    await runtime.start()
    for number, reason in ((1, "not today"), (2, "no answer")):
        with pytest.raises(MessageDroppedException) as dropped:
            await runtime.send_message(Number(number), ANYONE)
        assert dropped.value.reason == reason
    assert await runtime.send_message(Number(3), ANYONE) == Number(3)
    async with asyncio.timeout(5):
        await runtime.stop_when_idle()


async def test_row_49_any_id_may_be_a_sender(new_runtime: NewRuntime) -> None:
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.start()
    await caller.connect()
    stranger = AgentId("never.registered", "x y/z")
    await caller.send_message("hello", ANYONE, sender=stranger)
    await caller.publish_message("hello", TopicId("t", "k"), sender=stranger)
    agent = await agent_at(worker, "agent")
    await until(lambda: len(agent.contexts) == 2)
    assert [context.sender for context in agent.contexts] == [stranger, stranger]


async def test_row_50_a_sender_without_instance_is_not_built_even_for_tracing(new_runtime: NewRuntime) -> None:
    runtime = new_runtime(tracer_provider=TracerProvider())
    await serve(runtime, "agent")
    await runtime.register_factory("sender", Scripted)
    await runtime.start()
    await runtime.send_message("hello", ANYONE, sender=AgentId("sender", "s"))
    assert runtime._catalog.live_ids() == [ANYONE]


async def test_row_52_five_first_messages_build_the_agent_once(new_runtime: NewRuntime) -> None:
    built: list[Scripted] = []

    async def factory() -> Scripted:
        await asyncio.sleep(0.05)
        built.append(Scripted())
        return built[-1]

    worker, caller = new_runtime(), new_runtime()
    await worker.register_factory("agent", factory)
    await worker.start()
    await caller.connect()
    await asyncio.gather(*(caller.send_message(number, ANYONE) for number in range(5)))
    assert len(built) == 1
    assert built[0].seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("path", ["aba", "aa", "abcab"])
async def test_row_53_a_call_chain_may_come_back_to_an_agent_that_is_in_it(new_runtime: NewRuntime, path: str) -> None:
    async def call_on(agent: Scripted, message: str, ctx: MessageContext) -> str:
        if len(message) == 1:
            return message
        return message[0] + str(await agent.send_message(message[1:], AgentId(message[1], "k")))

    runtimes = {type: new_runtime(concurrency="serial") for type in set(path)}
    for type, runtime in runtimes.items():
        await serve(runtime, type, call_on)
        await runtime.start()
    async with asyncio.timeout(10):
        assert await runtimes["a"].send_message(path, AgentId(path[0], "k")) == path


@pytest.mark.parametrize(("concurrency", "at_once"), [(None, 10), ("serial", 1)])
async def test_row_53_handlers_of_one_agent_overlap_unless_it_is_serial(
    new_runtime: NewRuntime, concurrency: Any, at_once: int
) -> None:
    gate = Gate()
    worker, caller = new_runtime(concurrency=concurrency), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    calls = [asyncio.create_task(caller.send_message(number, ANYONE)) for number in range(10)]
    await until(lambda: worker._serving.turns.running == 10)
    assert gate.entered == at_once
    gate.opened.set()
    assert await asyncio.gather(*calls) == list(range(10))


class Particular(RoutedAgent):
    @event
    async def on_event(self, message: str, ctx: MessageContext) -> None: ...

    @message_handler(match=lambda message, ctx: message.value > 100)
    async def on_number(self, message: Number, ctx: MessageContext) -> Number:
        return message


@pytest.mark.parametrize("message", ["for events only", 1.5, Number(1)])
async def test_row_56_a_call_that_no_handler_takes_is_logged_or_refused(
    new_runtime: NewRuntime, caplog: pytest.LogCaptureFixture, message: Any
) -> None:
    worker, strict, caller = new_runtime(), new_runtime(strict_unhandled=True), new_runtime()
    await Particular.register(worker, "agent", Particular)
    await Particular.register(strict, "strict", Particular)
    await worker.start()
    await strict.start()
    await caller.connect()
    with caplog.at_level(logging.INFO):
        assert await caller.send_message(message, ANYONE) is None
    assert any("Unhandled message: " in record.getMessage() for record in caplog.records)
    with pytest.raises(CantHandleException, match="has no handler for"):
        await caller.send_message(message, AgentId("strict", "k"))


async def test_row_58_callbacks_of_a_token_may_use_it_and_may_fail(new_runtime: NewRuntime) -> None:
    gate = Gate()
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    token, ran = CancellationToken(), []
    token.add_callback(lambda: token.add_callback(lambda: ran.append(bool(token.is_cancelled))))
    token.add_callback(lambda: {}["missing"])
    token.add_callback(lambda: ran.append("last"))
    call = asyncio.create_task(caller.send_message("hello", ANYONE, cancellation_token=token))
    await until(lambda: gate.entered)
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ran == [True, "last"]
    gate.opened.set()


async def test_row_59_fields_come_back_as_the_classes_that_they_were_declared_with(new_runtime: NewRuntime) -> None:
    worker, caller = new_runtime(), new_runtime()
    await Declaring.register(worker, "agent", Declaring)
    await worker.start()
    await caller.connect()
    basket = Basket([Number(1)], Number(2), {"a": Number(3)})
    assert await caller.send_message(basket, ANYONE) == basket
    assert (await agent_at(worker, "agent")).seen == [basket]


@pytest.mark.parametrize("policy", ["warn", "error", "ignore"])
async def test_row_61_a_closure_of_any_is_called_under_every_policy(new_runtime: NewRuntime, policy: Any) -> None:
    async def closure(ctx: ClosureContext, message: Any, context: MessageContext) -> Any:
        return message

    worker, caller = new_runtime(), new_runtime()
    await ClosureAgent.register_closure(worker, "agent", closure, unknown_type_policy=policy)
    await worker.start()
    await caller.connect()
    assert await caller.send_message("hello", ANYONE) == "hello"


async def test_row_68_ten_calls_run_at_once(new_runtime: NewRuntime) -> None:
    async def wait(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        await asyncio.sleep(0.1)

    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", wait)
    await worker.start()
    await caller.connect()
    durations = []
    # A machine that is busy with other things may take longer now and then.
    for _ in range(5):
        begun = time.monotonic()
        await asyncio.gather(*(caller.send_message(number, ANYONE) for number in range(10)))
        durations.append(time.monotonic() - begun)
    assert min(durations) <= 0.3


KEYS = [
    "",
    "a.b",
    "*",
    ">",
    "a b",
    "a@b",
    "é",
    "日本語",
    "\n\r\0",
    "=2E",
    "=",
    "==",
    "x" * 300,
    "x" * 10_000,
    "é" * 10_000,
]


async def test_row_79_any_string_is_a_key_and_different_ones_never_meet(new_runtime: NewRuntime) -> None:
    async def who(agent: Scripted, message: Any, ctx: MessageContext) -> list[str]:
        return [agent.id.key, message]

    workers = [new_runtime(), new_runtime()]
    caller = new_runtime()
    for worker in workers:
        await serve(worker, "agent", who)
        await worker.start()
    await caller.connect()
    keys = [*KEYS, "x" * 299 + "y", "x" * 9_999 + "y", "A.B", "a=2Eb", "a,b", " a b", "a b "]
    answers = await asyncio.gather(*(caller.send_message(key, AgentId("agent", key)) for key in keys))
    assert answers == [[key, key] for key in keys]
