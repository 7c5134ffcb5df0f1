from dataclasses import dataclass
from typing import get_args

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, SpanKind, StatusCode

from hivewire.telemetry import MessageTracer, trace_create_agent_span
from hivewire.telemetry.tracing import Operation


@dataclass(frozen=True)
class FakeAgentId:
    type: str
    key: str


@dataclass(frozen=True)
class FakeTopicId:
    type: str
    source: str


@pytest.fixture(autouse=True)
def no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOGEN_DISABLE_RUNTIME_TRACING", raising=False)
    monkeypatch.delenv("HIVEWIRE_DISABLE_RUNTIME_TRACING", raising=False)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def tracer(provider: TracerProvider) -> MessageTracer:
    return MessageTracer(provider, instance="w1")


def finished(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return list(exporter.get_finished_spans())


def test_a_given_provider_enables_tracing(provider: TracerProvider) -> None:
    assert MessageTracer(provider, instance="w1").enabled


@pytest.mark.parametrize("given", [None, NoOpTracerProvider(), ProxyTracerProvider()])
def test_without_a_provider_that_records_tracing_is_off(
    given: trace.TracerProvider | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", ProxyTracerProvider)
    assert not MessageTracer(given, instance="w1").enabled


def test_a_global_no_op_provider_leaves_tracing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", NoOpTracerProvider)
    assert not MessageTracer(None, instance="w1").enabled


def test_a_global_provider_enables_tracing(monkeypatch: pytest.MonkeyPatch, provider: TracerProvider) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    assert MessageTracer(None, instance="w1").enabled


def test_a_global_provider_that_is_set_later_counts_from_the_next_refresh(
    monkeypatch: pytest.MonkeyPatch, provider: TracerProvider
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", ProxyTracerProvider)
    tracer = MessageTracer(None, instance="w1")
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    assert not tracer.enabled
    assert tracer.refresh()
    assert tracer.enabled


@pytest.mark.parametrize("switch", ["AUTOGEN_DISABLE_RUNTIME_TRACING", "HIVEWIRE_DISABLE_RUNTIME_TRACING"])
@pytest.mark.parametrize(("value", "enabled"), [("true", False), ("TRUE", False), ("false", True), ("", True)])
def test_either_switch_turns_runtime_spans_off(
    monkeypatch: pytest.MonkeyPatch, provider: TracerProvider, switch: str, value: str, enabled: bool
) -> None:
    monkeypatch.setenv(switch, value)
    assert MessageTracer(provider, instance="w1").enabled is enabled


def test_a_disabled_tracer_opens_no_span_and_gives_no_headers(provider: TracerProvider) -> None:
    tracer = MessageTracer(NoOpTracerProvider(), instance="w1")
    with provider.get_tracer("user").start_as_current_span("user") as users_own:
        with tracer.span("process", "a.(b)-A") as outer, tracer.span("ack", "a.(b)-A") as inner:
            assert not outer.is_recording()
            assert not inner.is_recording()
            assert trace.get_current_span() is users_own
        assert tracer.inject() == {}


@pytest.mark.parametrize("operation", get_args(Operation))
def test_a_span_has_the_name_kind_and_attributes_of_its_operation(
    tracer: MessageTracer, exporter: InMemorySpanExporter, operation: Operation
) -> None:
    with tracer.span(operation, "a.(b)-A", attributes={"messaging.message.type": "Task"}) as span:
        assert trace.get_current_span() is span
    (done,) = finished(exporter)
    assert done.name == f"autogen {operation} a.(b)-A"
    producing = operation in ("create", "send", "publish")
    assert done.kind is (SpanKind.PRODUCER if producing else SpanKind.CONSUMER)
    operation_type, autogens_type = {
        "create": ("create", "create"),
        "send": ("send", "publish"),
        "publish": ("send", "publish"),
        "intercept": ("receive", "receive"),
        "process": ("process", "process"),
        "ack": ("settle", "receive"),
    }[operation]
    assert dict(done.attributes or {}) == {
        "messaging.operation.name": operation,
        "messaging.operation.type": operation_type,
        "messaging.operation": autogens_type,
        "messaging.destination": "a.(b)-A",
        "messaging.client.id": "w1",
        "messaging.message.type": "Task",
    }


def test_spans_end_from_the_inside_out(tracer: MessageTracer, exporter: InMemorySpanExporter) -> None:
    with tracer.span("create", "t.(s)-T"):
        pass
    with tracer.span("publish", "t.(s)-T"), tracer.span("process", "a.(s)-A"):
        pass
    assert [span.name.split()[1] for span in finished(exporter)] == ["create", "process", "publish"]


def test_injected_headers_make_the_span_on_the_other_side_a_child(provider: TracerProvider) -> None:
    here, there = MessageTracer(provider, instance="w1"), MessageTracer(provider, instance="w2")
    with here.span("create", "a.(b)-A") as sender:
        headers = here.inject()
    assert set(headers) == {"traceparent"}
    with there.span("process", "a.(b)-A", parent=headers) as receiver:
        assert isinstance(receiver, ReadableSpan)
        assert receiver.parent is not None
        assert receiver.parent.span_id == sender.get_span_context().span_id
        assert receiver.get_span_context().trace_id == sender.get_span_context().trace_id


def test_the_trace_state_travels_with_the_parent(tracer: MessageTracer) -> None:
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}
    with tracer.span("process", "a.(b)-A", parent=headers):
        onward = tracer.inject()
    assert onward["traceparent"].split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    assert onward["tracestate"] == "vendor=1"


@pytest.mark.parametrize("parent", [None, {}, {"other": "header"}, {"traceparent": "garbage"}])
def test_without_valid_headers_the_current_span_is_the_parent(
    tracer: MessageTracer, parent: dict[str, str] | None
) -> None:
    with tracer.span("publish", "t.(s)-T") as outer, tracer.span("process", "a.(s)-A", parent=parent) as inner:
        assert isinstance(inner, ReadableSpan)
        assert inner.parent is not None
        assert inner.parent.span_id == outer.get_span_context().span_id


def test_an_exception_is_recorded_and_passes_on(tracer: MessageTracer, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(KeyError), tracer.span("process", "a.(b)-A"):
        raise KeyError("boom")
    (done,) = finished(exporter)
    assert [event.name for event in done.events] == ["exception"]
    assert done.status.status_code is StatusCode.ERROR


def test_outside_of_any_span_there_are_no_headers(tracer: MessageTracer) -> None:
    assert tracer.inject() == {}


@pytest.mark.parametrize(
    ("destination", "text"),
    [
        (FakeAgentId("worker", "k"), "worker.(k)-A"),
        (FakeAgentId("worker", ""), "worker.()-A"),
        (FakeTopicId("news", "s"), "news.(s)-T"),
        (FakeTopicId("news", ""), "news.()-T"),
        ("MyHandler", "MyHandler"),
    ],
)
def test_destinations_are_written_by_their_kind(destination: object, text: str) -> None:
    assert MessageTracer.destination_of(destination) == text


def test_an_event_of_another_trace_than_the_current_one_is_linked_to_it(
    tracer: MessageTracer, exporter: InMemorySpanExporter
) -> None:
    other = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with tracer.span("publish", "outer") as outer:
        with tracer.creating(FakeTopicId("t", "s"), type_name="Text", parent=other):
            pass
        with tracer.creating(FakeTopicId("t", "s"), type_name="Text", parent=tracer.inject()):
            pass
    foreign, own, _ = finished(exporter)
    assert [link.context.span_id for link in foreign.links] == [outer.get_span_context().span_id]
    assert own.links == ()
    assert own.parent is not None
    assert own.parent.span_id == outer.get_span_context().span_id


def test_what_is_done_for_a_message_is_not_part_of_the_span_around(tracer: MessageTracer) -> None:
    with tracer.span("publish", "outer") as outer:
        with tracer.continuing({}):
            assert tracer.inject() == {}
        assert trace.get_current_span() is outer


def test_an_agent_that_opens_a_span_for_its_own_building_has_one(
    tracer: MessageTracer, exporter: InMemorySpanExporter
) -> None:
    with tracer.building(FakeAgentId("writer", "k")) as built:
        with trace_create_agent_span("writer", agent_description="writes") as own:
            assert own is built
        with trace_create_agent_span("editor") as other:
            assert other is not built
    # Later on it is another agent's.
    with trace_create_agent_span("writer") as later:
        assert later is not built
    (done,) = finished(exporter)
    assert (done.name, (done.attributes or {})["gen_ai.agent.description"]) == ("create_agent writer", "writes")
