import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hivewire.agents.base import BaseAgent
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.interventions import DefaultInterventionHandler
from hivewire.model.subscriptions import TypeSubscription
from hivewire.model.topics import TopicId

TOPIC = TopicId("default", "s")
AGENT = AgentId("agent", "s")
CALLER = AgentId("caller", "k")


class Echo(BaseAgent):
    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        if message == "fail":
            raise ValueError("boom")
        if message == "forward":
            return await self.send_message("forwarded", AgentId("agent", "inner"))
        return message


class Traced:
    """A provider whose spans can be read back."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        return [span.name.strip() for span in self.spans]

    def one(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name.strip() == name]
        return span


@asynccontextmanager
async def running(traced: Traced, **options: Any) -> AsyncIterator[SingleThreadedAgentRuntime]:
    runtime = SingleThreadedAgentRuntime(tracer_provider=traced.provider, **options)
    await runtime.register_factory("agent", Echo)
    runtime.start()
    yield runtime
    await runtime.stop_when_idle()


async def test_a_publish_ends_create_process_and_publish_in_that_order() -> None:
    traced = Traced()
    async with running(traced) as runtime:
        await runtime.add_subscription(TypeSubscription("default", "agent"))
        await runtime.publish_message("x", TOPIC)

    assert traced.names == [
        "autogen create default.(s)-T",
        "autogen process agent.(s)-A",
        "autogen publish default.(s)-T",
    ]


async def test_a_call_ends_process_send_ack_and_create_in_that_order() -> None:
    traced = Traced()
    async with running(traced) as runtime:
        await runtime.send_message("x", AGENT, sender=CALLER)
        await runtime.send_message("x", AGENT)

    assert traced.names[:4] == [
        "autogen process agent.(s)-A",
        "autogen send agent.(s)-A",
        "autogen ack caller.(k)-A",
        "autogen create agent.(s)-A",
    ]
    assert traced.names[6] == "autogen ack"


@pytest.mark.parametrize("intercepted", [False, True])
async def test_all_that_a_message_causes_is_one_trace(intercepted: bool) -> None:
    traced = Traced()
    handlers = [DefaultInterventionHandler()] if intercepted else None
    async with running(traced, intervention_handlers=handlers) as runtime:
        await runtime.send_message("forward", AGENT)

    assert len({span.context.trace_id for span in traced.spans if span.context}) == 1
    assert [span.name for span in traced.spans if span.parent is None] == ["autogen create agent.(s)-A"]
    assert ("autogen intercept agent.(s)-A" in traced.names) is intercepted


async def test_messages_that_have_nothing_to_do_with_each_other_are_traces_of_their_own() -> None:
    traced = Traced()
    async with running(traced) as runtime:
        await runtime.publish_message("x", TOPIC)
        await runtime.publish_message("y", TOPIC)

    assert len({span.context.trace_id for span in traced.spans if span.context}) == 2


async def test_a_handlers_error_is_recorded() -> None:
    traced = Traced()
    async with running(traced) as runtime:
        with pytest.raises(ValueError, match="boom"):
            await runtime.send_message("fail", AGENT)

    span = traced.one("autogen process agent.(s)-A")
    assert not span.status.is_ok
    assert [event.name for event in span.events] == ["exception"]
    assert "autogen ack" not in traced.names


@pytest.mark.parametrize("record_payloads", [False, True])
async def test_payloads_are_in_spans_only_when_that_is_asked_for(record_payloads: bool) -> None:
    traced = Traced()
    async with running(traced, record_payloads=record_payloads) as runtime:
        await runtime.send_message("secret", AGENT, sender=CALLER, message_id="7")

    attributes = dict(traced.one("autogen process agent.(s)-A").attributes or {})
    assert attributes["message"] == ('"secret"' if record_payloads else "str")
    assert attributes["recipient_agent_class"] == "Echo"
    assert attributes["sender_agent_type"] == "caller"
    assert json.loads(str(attributes["message_context"])) == {
        "sender": "caller/k",
        "topic_id": "None",
        "is_rpc": True,
        "message_id": "7",
    }
    if not record_payloads:
        assert not any("secret" in str(dict(span.attributes or {})) for span in traced.spans)


@pytest.mark.parametrize("switch", ["AUTOGEN_DISABLE_RUNTIME_TRACING", "HIVEWIRE_DISABLE_RUNTIME_TRACING"])
async def test_tracing_can_be_switched_off(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(switch, "true")
    traced = Traced()
    async with running(traced) as runtime:
        await runtime.send_message("x", AGENT)

    assert traced.spans == ()
