import json
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from contract.support import (
    Inbox,
    MakeRuntime,
    Runtime,
    Scripted,
    Settle,
    Text,
    echo,
    fail,
    ignore,
    only_network,
    serve,
)
from hivewire import AgentId, MessageContext, RetryPolicy, TopicId, TypeSubscription

AGENT = AgentId("agent", "k")
TOPIC = TopicId("t", "k")


class Traced:
    """A provider whose finished spans can be read back."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    @property
    def trace_ids(self) -> set[int]:
        return {span.context.trace_id for span in self.spans}


@pytest.fixture
def traced() -> Traced:
    return Traced()


@pytest.fixture
async def traced_runtime(make_runtime: MakeRuntime, traced: Traced) -> Runtime:
    runtime = make_runtime(tracer_provider=traced.provider)
    await runtime.start()
    return runtime


async def test_a_call_is_created_and_processed(traced_runtime: Runtime, traced: Traced) -> None:
    await serve(traced_runtime, "agent")
    await traced_runtime.send_message(Text("x"), AGENT)

    create, process = traced.one("autogen create agent.(k)-A"), traced.one("autogen process agent.(k)-A")
    assert create.kind is SpanKind.PRODUCER
    assert process.kind is SpanKind.CONSUMER
    assert create.context.trace_id == process.context.trace_id
    assert create.parent is None
    assert process.parent is not None


async def test_an_event_is_created_and_processed_by_each_subscriber(
    traced_runtime: Runtime, traced: Traced, settle: Settle
) -> None:
    for type in "ab":
        await serve(traced_runtime, type, ignore, "t")
    await traced_runtime.publish_message(Text("x"), TOPIC)
    await settle(traced_runtime)

    create = traced.one("autogen create t.(k)-T")
    processed = [traced.one(f"autogen process {type}.(k)-A") for type in "ab"]
    assert create.kind is SpanKind.PRODUCER
    assert {span.context.trace_id for span in processed} == {create.context.trace_id}
    assert all(span.parent is not None for span in processed)


async def test_all_that_one_message_causes_is_one_trace(
    traced_runtime: Runtime, traced: Traced, settle: Settle
) -> None:
    async def work(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        answer = await agent.send_message(message, AgentId("helper", "h"))
        await agent.publish_message(answer, TOPIC)
        return answer

    await serve(traced_runtime, "agent", work)
    await serve(traced_runtime, "helper")
    await serve(traced_runtime, "reader", ignore, "t")
    await traced_runtime.send_message("x", AGENT)
    await settle(traced_runtime)

    assert len(traced.trace_ids) == 1
    for name in ("create agent.(k)-A", "process helper.(h)-A", "create t.(k)-T", "process reader.(k)-A"):
        traced.one(f"autogen {name}")


async def test_a_trace_of_the_callers_own_goes_on(traced_runtime: Runtime, traced: Traced, settle: Settle) -> None:
    await serve(traced_runtime, "agent", echo, "t")
    with traced.provider.get_tracer("test").start_as_current_span("mine") as mine:
        await traced_runtime.send_message("x", AGENT)
        await traced_runtime.publish_message("x", TOPIC)
    await settle(traced_runtime)

    assert traced.trace_ids == {mine.get_span_context().trace_id}


async def test_a_span_of_the_handlers_own_belongs_to_the_trace(traced_runtime: Runtime, traced: Traced) -> None:
    async def work(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        with traced.provider.get_tracer("test").start_as_current_span("work"):
            pass

    await serve(traced_runtime, "agent", work)
    await traced_runtime.send_message("x", AGENT)

    work_span, process = traced.one("work"), traced.one("autogen process agent.(k)-A")
    assert work_span.parent is not None
    assert work_span.parent.span_id == process.context.span_id


async def test_messages_that_have_nothing_to_do_with_each_other_are_traces_of_their_own(
    traced_runtime: Runtime, traced: Traced, settle: Settle
) -> None:
    await serve(traced_runtime, "agent", echo, "t")
    for _ in range(2):
        await traced_runtime.send_message("x", AGENT)
        await traced_runtime.publish_message("x", TOPIC)
    await settle(traced_runtime)

    assert len(traced.trace_ids) == 4


async def test_a_handlers_error_is_recorded(traced_runtime: Runtime, traced: Traced, settle: Settle) -> None:
    await serve(traced_runtime, "agent", fail, "t")
    with pytest.raises(ValueError):
        await traced_runtime.send_message("x", AGENT)
    await traced_runtime.publish_message("x", TOPIC)
    await settle(traced_runtime)

    processed = traced.named("autogen process agent.(k)-A")
    assert len(processed) == 2
    for span in processed:
        assert span.status.status_code is StatusCode.ERROR
        # What became of the event after that is for those who keep it.
        assert [event.name for event in span.events if event.name != "dead_letter"] == ["exception"]
        assert (span.attributes or {})["error.type"] == "ValueError"


async def test_contents_of_messages_are_in_no_span(traced_runtime: Runtime, traced: Traced, settle: Settle) -> None:
    await serve(traced_runtime, "agent", echo, "t")
    await traced_runtime.send_message(Text("secret"), AGENT)
    await traced_runtime.publish_message(Text("secret"), TOPIC)
    await settle(traced_runtime)

    assert traced.spans
    assert "secret" not in json.dumps([json.loads(span.to_json()) for span in traced.spans])


@only_network
async def test_the_handling_of_an_event_is_linked_to_its_publishing(
    traced_runtime: Runtime, traced: Traced, settle: Settle
) -> None:
    await serve(traced_runtime, "agent", ignore, "t")
    await traced_runtime.publish_message("x", TOPIC)
    await settle(traced_runtime)
    await traced_runtime.send_message("x", AGENT)

    publish, (handled, called) = traced.one("autogen create t.(k)-T"), traced.named("autogen process agent.(k)-A")
    assert [link.context.span_id for link in handled.links] == [publish.context.span_id]
    assert called.links == ()
    attributes = handled.attributes or {}
    assert (attributes["messaging.system"], attributes["hivewire.attempt"]) == ("nats", 1)
    assert (attributes["gen_ai.agent.name"], attributes["gen_ai.agent.id"]) == ("agent", "agent/k")


@only_network
async def test_attempts_at_an_event_are_counted(traced_runtime: Runtime, traced: Traced, settle: Settle) -> None:
    class Stubborn(Scripted):
        retry_policy = RetryPolicy(attempts=2, first_delay_s=0.01)

    await traced_runtime.register_factory("agent", lambda: Stubborn(fail, Inbox()), expected_class=Stubborn)
    await traced_runtime.add_subscription(TypeSubscription("t", "agent"))
    await traced_runtime.publish_message("x", TOPIC)
    await settle(traced_runtime)

    attempts = traced.named("autogen process agent.(k)-A")
    assert [(span.attributes or {})["hivewire.attempt"] for span in attempts] == [1, 2]
    assert len(traced.trace_ids) == 1


@only_network
async def test_an_agent_is_built_within_the_trace_of_the_message_that_needs_it(
    traced_runtime: Runtime, traced: Traced
) -> None:
    await serve(traced_runtime, "agent")
    await traced_runtime.send_message("x", AGENT)

    built, create = traced.one("create_agent agent"), traced.one("autogen create agent.(k)-A")
    assert built.parent is not None
    assert built.parent.span_id == create.context.span_id


@pytest.mark.parametrize("switch", ["AUTOGEN_DISABLE_RUNTIME_TRACING", "HIVEWIRE_DISABLE_RUNTIME_TRACING"])
async def test_it_can_be_switched_off(
    make_runtime: MakeRuntime, traced: Traced, monkeypatch: pytest.MonkeyPatch, settle: Settle, switch: str
) -> None:
    monkeypatch.setenv(switch, "true")
    runtime = make_runtime(tracer_provider=traced.provider)
    await runtime.start()
    await serve(runtime, "agent", echo, "t")
    await runtime.send_message("x", AGENT)
    await runtime.publish_message("x", TOPIC)
    await settle(runtime)

    assert traced.names == []


async def test_without_a_provider_nothing_is_traced_and_everything_works(runtime: Runtime) -> None:
    async def span_of(agent: Scripted, message: Any, ctx: MessageContext) -> bool:
        return trace.get_current_span().is_recording()

    await serve(runtime, "agent", span_of)

    assert await runtime.send_message("x", AGENT) is False
