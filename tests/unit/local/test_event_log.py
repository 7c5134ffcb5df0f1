import json
import logging
from typing import Any

import pytest

from hivewire.agents.base import BaseAgent
from hivewire.local.event_log import EventLog
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.logging import EVENT_LOGGER_NAME
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.subscriptions import TypeSubscription
from hivewire.model.topics import TopicId

AGENT = AgentId("agent", "s")


class Echo(BaseAgent):
    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        if message == "fail":
            raise ValueError("boom")
        return message


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, EVENT_LOGGER_NAME)
    return caplog


async def run(**options: Any) -> None:
    """Make one call, one call that fails and one event."""
    runtime = SingleThreadedAgentRuntime(**options)
    await runtime.register_factory("agent", Echo)
    await runtime.add_subscription(TypeSubscription("t", "agent"))
    runtime.start()
    await runtime.send_message("secret", AGENT, sender=AgentId("caller", "k"))
    with pytest.raises(ValueError, match="boom"):
        await runtime.send_message("fail", AGENT)
    await runtime.publish_message("secret", TopicId("t", "s"))
    await runtime.stop_when_idle()


def read(events: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(str(record.msg)) for record in events.records if record.name == EVENT_LOGGER_NAME]


async def test_every_stage_of_a_message_is_an_event(events: pytest.LogCaptureFixture) -> None:
    await run()

    assert [
        (event.get("kind"), event.get("delivery_stage"), event.get("sender"), event.get("receiver"))
        for event in read(events)
        if event["type"] == "Message"
    ] == [
        ("MessageKind.DIRECT", "DeliveryStage.SEND", "caller/k", "agent/s"),
        ("MessageKind.DIRECT", "DeliveryStage.DELIVER", "caller/k", "agent/s"),
        ("MessageKind.RESPOND", "DeliveryStage.SEND", "agent/s", "caller/k"),
        ("MessageKind.RESPOND", "DeliveryStage.DELIVER", "agent/s", "caller/k"),
        ("MessageKind.DIRECT", "DeliveryStage.SEND", None, "agent/s"),
        ("MessageKind.DIRECT", "DeliveryStage.DELIVER", None, "agent/s"),
        ("MessageKind.PUBLISH", "DeliveryStage.SEND", None, "t/s"),
        ("MessageKind.PUBLISH", "DeliveryStage.DELIVER", None, None),
    ]


async def test_a_handlers_error_is_an_event(events: pytest.LogCaptureFixture) -> None:
    await run()

    (failed,) = [event for event in read(events) if event["type"] == "MessageHandlerException"]
    assert (failed["handling_agent"], failed["exception"]) == ("agent/s", "boom")


@pytest.mark.parametrize("record_payloads", [False, True])
async def test_payloads_show_only_when_that_is_asked_for(
    events: pytest.LogCaptureFixture, record_payloads: bool
) -> None:
    await run(record_payloads=record_payloads)

    assert read(events)[0]["payload"] == ('"secret"' if record_payloads else "str")
    assert ("secret" in events.text) is record_payloads


async def test_what_cannot_be_serialized_says_so(events: pytest.LogCaptureFixture) -> None:
    assert EventLog(SerializerRegistry(), record_payloads=True).payload(object()) == ("Message could not be serialized")


async def test_nothing_is_emitted_while_the_logger_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, EVENT_LOGGER_NAME)
    await run()

    assert read(caplog) == []
