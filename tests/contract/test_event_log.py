"""What programs can read from the event logger."""

import json
import logging
from typing import Any

import pytest

from contract.support import MakeRuntime, Runtime, Scripted, Settle, Text, echo, fail, ignore, serve
from hivewire import EVENT_LOGGER_NAME, ROOT_LOGGER_NAME, AgentId, MessageContext, TopicId, TypeSubscription
from hivewire.logging import (
    AgentConstructionExceptionEvent,
    LLMCallEvent,
    MessageEvent,
    MessageHandlerExceptionEvent,
)

AGENT = AgentId("agent", "k")
SENDER = AgentId("sender", "s")
TOPIC = TopicId("t", "k")


def events(caplog: pytest.LogCaptureFixture, cls: type[Any]) -> list[dict[str, Any]]:
    return [record.msg.kwargs for record in caplog.records if isinstance(record.msg, cls)]


def steps(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (each["kind"].removeprefix("MessageKind."), each["delivery_stage"].removeprefix("DeliveryStage."))
        for each in events(caplog, MessageEvent)
    ]


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=EVENT_LOGGER_NAME)


async def test_a_call_tells_of_itself_and_of_its_answer(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    await serve(runtime, "agent")
    await runtime.send_message(Text("x"), AGENT, sender=SENDER)

    assert steps(caplog) == [("DIRECT", "SEND"), ("DIRECT", "DELIVER"), ("RESPOND", "SEND"), ("RESPOND", "DELIVER")]
    ends = [(each["sender"], each["receiver"]) for each in events(caplog, MessageEvent)]
    assert ends == [("sender/s", "agent/k")] * 2 + [("agent/k", "sender/s")] * 2


async def test_an_event_tells_of_itself_and_of_each_delivery(
    runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    for type in "ab":
        await serve(runtime, type, ignore, "t")
    await runtime.publish_message(Text("x"), TOPIC, sender=SENDER)
    await settle(runtime)

    assert steps(caplog) == [("PUBLISH", "SEND"), ("PUBLISH", "DELIVER"), ("PUBLISH", "DELIVER")]
    sent, *_ = events(caplog, MessageEvent)
    assert (sent["sender"], sent["receiver"]) == ("sender/s", "t/k")


async def test_asking_for_metadata_or_state_is_no_message(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    await serve(runtime, "agent")
    await runtime.agent_metadata(AGENT)
    await runtime.agent_save_state(AGENT)

    assert steps(caplog) == []


async def test_each_prints_as_one_line_of_json(
    runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    await serve(runtime, "agent", echo, "t")
    await runtime.send_message(Text("x"), AGENT)
    await runtime.publish_message(Text("x"), TOPIC)
    await settle(runtime)

    printed = [json.loads(record.getMessage()) for record in caplog.records if record.name == EVENT_LOGGER_NAME]
    assert len(printed) >= 6
    assert {each["type"] for each in printed} == {"Message"}
    assert {each["kind"] for each in printed} == {"MessageKind.DIRECT", "MessageKind.PUBLISH", "MessageKind.RESPOND"}


async def test_contents_are_left_out_and_the_type_is_named(
    runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    await serve(runtime, "agent", echo, "t")
    await runtime.send_message(Text("secret"), AGENT)
    await runtime.publish_message(Text("secret"), TOPIC)
    await settle(runtime)

    assert {each["payload"] for each in events(caplog, MessageEvent)} == {"Text"}
    assert "secret" not in caplog.text


async def test_contents_are_there_when_that_is_asked_for(
    make_runtime: MakeRuntime, settle: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = make_runtime(record_payloads=True)
    await runtime.start()
    await serve(runtime, "agent", echo, "t")
    await runtime.send_message(Text("open"), AGENT)
    await runtime.publish_message(Text("open"), TOPIC)
    await settle(runtime)

    assert [json.loads(each["payload"]) for each in events(caplog, MessageEvent)] == [{"value": "open"}] * 6


@pytest.mark.parametrize("how", ["call", "event"])
async def test_a_handlers_error_is_told(
    runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    await serve(runtime, "agent", fail, "t")
    if how == "call":
        with pytest.raises(ValueError):
            await runtime.send_message(Text("secret"), AGENT)
    else:
        await runtime.publish_message(Text("secret"), TOPIC)
    await settle(runtime)

    (told,) = events(caplog, MessageHandlerExceptionEvent)
    assert told["handling_agent"] == "agent/k"
    assert told["exception"] == "boom"
    assert "secret" not in json.dumps(told)


@pytest.mark.parametrize("how", ["call", "event"])
async def test_a_factorys_error_is_told(
    runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    def factory() -> Scripted:
        raise KeyError("boom")

    await runtime.register_factory("agent", factory, expected_class=Scripted)
    if how == "call":
        with pytest.raises(KeyError):
            await runtime.send_message("x", AGENT)
    else:
        await runtime.add_subscription(TypeSubscription("t", "agent"))
        await runtime.publish_message("x", TOPIC)
    await settle(runtime)

    (told,) = events(caplog, AgentConstructionExceptionEvent)
    assert told["agent_id"] == "agent/k"
    assert "boom" in told["exception"]


async def test_events_of_models_and_tools_name_the_agent_whose_handler_runs(
    runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask_model(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        event = LLMCallEvent(messages=[], response={}, prompt_tokens=1, completion_tokens=2)
        logging.getLogger(EVENT_LOGGER_NAME).info(event)

    await serve(runtime, "agent", ask_model, "t")
    await runtime.send_message("x", AGENT)
    await runtime.publish_message("x", TopicId("t", "other"))
    await settle(runtime)

    assert [each["agent_id"] for each in events(caplog, LLMCallEvent)] == ["agent/k", "agent/other"]


async def test_contents_are_in_no_line_of_any_logger(
    runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.INFO, logger="hivewire")
    caplog.set_level(logging.INFO, logger=ROOT_LOGGER_NAME)
    await serve(runtime, "agent", echo, "t")
    await serve(runtime, "failing", fail, "t")
    await runtime.send_message(Text("secret"), AGENT)
    with pytest.raises(ValueError):
        await runtime.send_message(Text("secret"), AgentId("failing", "f"))
    for topic in (TOPIC, TopicId("nowhere", "s")):
        await runtime.publish_message(Text("secret"), topic)
    await settle(runtime)

    assert caplog.records
    assert "secret" not in "".join(record.getMessage() for record in caplog.records)
