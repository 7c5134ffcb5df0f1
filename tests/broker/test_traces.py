"""What the spans of the NATS runtime tell: of messages, attempts, streams and the building of agents."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from broker.conftest import NewRuntime
from broker.scripted import Counter, Handle, Scripted, until
from hivewire import (
    AgentId,
    MessageContext,
    NatsAgentRuntime,
    RetryPolicy,
    StateConflictError,
    TopicId,
    TypeSubscription,
    trace_create_agent_span,
)
from hivewire.nats.broker import Broker
from hivewire.nats.dead_letter_store import DeadLetterFilter, DeadLetterStore
from hivewire.nats.subjects import Subjects

AGENT = AgentId("agent", "k")
TOPIC = TopicId("t", "k")


class Traced:
    """A provider whose finished spans can be read back."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


async def serve(
    runtime: NatsAgentRuntime, handle: Handle | None = None, *, cls: type[Scripted] = Scripted, topic: str = "t"
) -> None:
    await runtime.register_factory("agent", lambda: cls(handle), expected_class=cls)
    await runtime.add_subscription(TypeSubscription(topic, "agent"))
    await runtime.start()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


@pytest.fixture
def traced() -> Traced:
    return Traced()


@pytest.fixture
def runtime(new_runtime: NewRuntime, traced: Traced, namespace: str) -> NatsAgentRuntime:
    return new_runtime(tracer_provider=traced.provider, instance_id="here")


async def test_a_span_tells_which_message_goes_where(runtime: NatsAgentRuntime, traced: Traced, namespace: str) -> None:
    await serve(runtime, topic="t:session-1")
    await runtime.send_message("x", AGENT)
    await runtime.publish_message("x", TopicId("t:session-1", "k"), message_id="m-1")
    await until(lambda: len(traced.named("autogen process agent.(k)-A")) == 2)

    called, handled = traced.named("autogen process agent.(k)-A")
    common = {
        "messaging.system": "nats",
        "messaging.client.id": "here",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.operation": "process",
        "messaging.destination": "agent.(k)-A",
        "messaging.message.type": "str",
        "gen_ai.agent.name": "agent",
        "gen_ai.agent.id": "agent/k",
    }
    create = traced.one("autogen create agent.(k)-A")
    assert attributes(called) == {
        **common,
        "messaging.destination.template": f"{namespace}.rpc.agent.{{group}}.{{slot}}.{{key}}",
        "messaging.consumer.group.name": "agent",
        "messaging.message.id": attributes(create)["messaging.message.id"],
    }
    publish = traced.one("autogen create t:session-1.(k)-T")
    template = f"{namespace}.event.{{source}}.t.{{rest}}"
    assert attributes(handled) == {
        **common,
        "messaging.destination.template": template,
        "messaging.message.id": "m-1",
        "hivewire.attempt": 1,
    }
    assert attributes(publish)["messaging.destination.template"] == template
    assert attributes(publish)["messaging.message.id"] == "m-1"
    assert [parent_of(handled), *(link.context.span_id for link in handled.links)] == [publish.context.span_id] * 2
    assert (parent_of(called), called.links) == (create.context.span_id, ())


async def test_each_attempt_is_a_span_that_tells_what_follows(
    runtime: NatsAgentRuntime, new_runtime: NewRuntime, nats_url: str, traced: Traced, namespace: str
) -> None:
    class Failing(Scripted):
        retry_policy = RetryPolicy(attempts=2, first_delay_s=0.01, jitter=0)

    fails = True

    async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        if fails:
            raise ValueError("boom")

    await serve(runtime, handle, cls=Failing)
    await runtime.publish_message("x", TOPIC)
    process = "autogen process agent.(k)-A"
    await until(lambda: len(traced.named(process)) == 2)

    first, second = traced.named(process)
    publish = traced.one("autogen create t.(k)-T")
    assert [attributes(span)["hivewire.attempt"] for span in (first, second)] == [1, 2]
    assert parent_of(first) == parent_of(second) == publish.context.span_id
    assert [[event.name for event in span.events] for span in (first, second)] == [
        ["exception", "retry"],
        ["exception", "dead_letter"],
    ]
    assert dict(first.events[1].attributes or {}) == {"hivewire.attempt": 1, "hivewire.retry.delay_s": 0.01}
    assert dict(second.events[1].attributes or {}) == {"hivewire.attempt": 2}
    assert {(span.status.status_code, attributes(span)["error.type"]) for span in (first, second)} == {
        (StatusCode.ERROR, "ValueError")
    }

    fails = False
    broker = Broker(nats_url, name="test")
    await broker.open()
    try:
        store = DeadLetterStore(broker, Subjects(namespace))
        async with asyncio.timeout(10):
            while not (letters := [letter async for letter in store.find(DeadLetterFilter())]):
                await asyncio.sleep(0.01)
        await store.replay(letters[0])
    finally:
        await broker.close()
    await until(lambda: len(traced.named(process)) == 3)
    replayed = traced.named(process)[2]
    assert (parent_of(replayed), attributes(replayed)["hivewire.attempt"]) == (publish.context.span_id, 1)


async def test_a_state_that_can_not_be_stored_is_an_error_of_the_handling(
    runtime: NatsAgentRuntime, new_runtime: NewRuntime, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serve(runtime, cls=Counter)
    assert await runtime.send_message("x", AGENT) == 1
    monkeypatch.setattr(Counter, "save_state", lambda self: _refused())
    with pytest.raises(StateConflictError):
        await runtime.send_message("x", AGENT)
    handled = traced.named("autogen process agent.(k)-A")[1]
    assert attributes(handled)["error.type"] == "StateConflictError"


async def _refused() -> Any:
    raise StateConflictError("somebody else wrote")


async def test_the_building_of_an_agent_is_a_span_of_the_message_that_needs_it(
    runtime: NatsAgentRuntime, traced: Traced
) -> None:
    def make() -> Scripted:
        with trace_create_agent_span("agent", agent_description="says what it hears"):
            return Scripted()

    await runtime.register_factory("agent", make)
    await runtime.start()
    await asyncio.gather(*(runtime.send_message("x", AGENT) for _ in range(3)))

    built = traced.one("create_agent agent")
    assert parent_of(built) in {span.context.span_id for span in traced.named("autogen create agent.(k)-A")}
    assert attributes(built) == {
        "gen_ai.operation.name": "create_agent",
        "gen_ai.provider.name": "autogen",
        "gen_ai.system": "autogen",
        "gen_ai.agent.name": "agent",
        "gen_ai.agent.id": "agent/k",
        "gen_ai.agent.description": "says what it hears",
    }


async def test_an_agent_that_can_not_be_built_is_an_error_of_its_span(
    runtime: NatsAgentRuntime, traced: Traced
) -> None:
    def make() -> Scripted:
        raise LookupError("no model")

    await runtime.register_factory("agent", make)
    await runtime.start()
    with pytest.raises(LookupError):
        await runtime.send_message("x", AGENT)
    assert attributes(traced.one("create_agent agent"))["error.type"] == "LookupError"


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_streamed_answer_is_within_the_span_of_its_request(
    runtime: NatsAgentRuntime, traced: Traced, resumable: bool
) -> None:
    async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        async def chunks() -> Any:
            yield 1
            if message == "fail":
                raise ValueError("boom")

        return chunks()

    await serve(runtime, handle)
    async with runtime.stream_message("x", AGENT, resumable=resumable) as stream:
        assert [chunk async for chunk in stream] == [1]
    with pytest.raises(ValueError):
        async with runtime.stream_message("fail", AGENT, resumable=resumable) as stream:
            async for _ in stream:
                pass
    create, process = "autogen create agent.(k)-A", "autogen process agent.(k)-A"
    await until(lambda: len(traced.named(create)) == len(traced.named(process)) == 2)
    for created, processed in zip(traced.named(create), traced.named(process), strict=True):
        assert parent_of(processed) == created.context.span_id
        assert created.status.status_code is processed.status.status_code
    assert attributes(traced.named(create)[1])["error.type"] == "ValueError"
    assert traced.named(create)[0].status.status_code is StatusCode.UNSET


async def test_messages_have_nothing_to_do_with_the_span_that_a_runtime_was_started_in(
    runtime: NatsAgentRuntime, new_runtime: NewRuntime, traced: Traced
) -> None:
    with traced.provider.get_tracer("test").start_as_current_span("main"):
        await serve(runtime)
    plain = new_runtime()
    await plain.connect()
    await plain.publish_message("x", TOPIC)
    await plain.send_message("x", AGENT)
    await until(lambda: len(traced.named("autogen process agent.(k)-A")) == 2)
    assert [span.parent for span in traced.named("autogen process agent.(k)-A")] == [None, None]


async def test_what_was_scheduled_once_goes_on_in_the_trace_and_what_repeats_is_one_of_its_own(
    runtime: NatsAgentRuntime, traced: Traced
) -> None:
    await serve(runtime)
    await runtime.schedule_message("once", AGENT, after=0)
    await until(lambda: traced.named("autogen process agent.(k)-A"))
    await runtime.schedule_message("again", AGENT, every=1)
    await until(lambda: len(traced.named("autogen process agent.(k)-A")) == 2)
    once, again = traced.named("autogen process agent.(k)-A")
    assert parent_of(once) == traced.named("autogen create agent.(k)-A")[0].context.span_id
    assert again.parent is None


async def test_a_trace_that_is_not_sampled_goes_on_as_such(new_runtime: NewRuntime, traced: Traced) -> None:
    @dataclass
    class Seen:
        context: trace.SpanContext | None = None

    seen = Seen()

    async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        seen.context = trace.get_current_span().get_span_context()

    await serve(new_runtime(tracer_provider=traced.provider), handle)
    sender = new_runtime(tracer_provider=Traced(sampler=ALWAYS_OFF).provider)
    await sender.connect()
    await sender.send_message("x", AGENT)
    assert seen.context is not None
    assert seen.context.is_valid
    assert not seen.context.trace_flags.sampled
    assert traced.spans == ()


async def test_contents_are_in_spans_only_on_demand(new_runtime: NewRuntime, traced: Traced) -> None:
    runtime = new_runtime(tracer_provider=traced.provider, record_payloads=True)
    await serve(runtime)
    await runtime.send_message("shown", AGENT)
    assert attributes(traced.one("autogen process agent.(k)-A"))["message"] == '"shown"'
