from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from hivewire.telemetry import trace_create_agent_span, trace_invoke_agent_span, trace_tool_span


@dataclass(frozen=True)
class FakeAgentId:
    type: str
    key: str

    def __str__(self) -> str:
        return f"{self.type}/{self.key}"


@dataclass(frozen=True)
class FakeAgentType:
    type: str


class Recorder:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def only(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_creating_an_agent_is_a_client_span_with_its_facts(recorder: Recorder) -> None:
    with trace_create_agent_span(
        "writer", tracer=recorder.tracer, agent_id="writer/1", agent_description="writes"
    ) as span:
        assert get_current_span() is span
    done = recorder.only()
    assert (done.name, done.kind) == ("create_agent writer", SpanKind.CLIENT)
    assert attributes(done) == {
        "gen_ai.operation.name": "create_agent",
        "gen_ai.provider.name": "autogen",
        "gen_ai.system": "autogen",
        "gen_ai.agent.name": "writer",
        "gen_ai.agent.id": "writer/1",
        "gen_ai.agent.description": "writes",
    }


def test_invoking_an_agent_is_a_client_span(recorder: Recorder) -> None:
    with trace_invoke_agent_span("writer", tracer=recorder.tracer):
        pass
    done = recorder.only()
    assert (done.name, done.kind) == ("invoke_agent writer", SpanKind.CLIENT)
    assert attributes(done) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "autogen",
        "gen_ai.system": "autogen",
        "gen_ai.agent.name": "writer",
    }


def test_running_a_tool_is_an_internal_span_with_its_facts(recorder: Recorder) -> None:
    with trace_tool_span("add", tracer=recorder.tracer, tool_description="adds", tool_call_id="c1", retries=2):
        pass
    done = recorder.only()
    assert (done.name, done.kind) == ("execute_tool add", SpanKind.INTERNAL)
    assert attributes(done) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.provider.name": "autogen",
        "gen_ai.system": "autogen",
        "gen_ai.tool.name": "add",
        "gen_ai.tool.description": "adds",
        "gen_ai.tool.call.id": "c1",
        "retries": 2,
    }


@pytest.mark.parametrize("open_span", [trace_create_agent_span, trace_invoke_agent_span])
def test_agent_type_is_another_word_for_the_name(recorder: Recorder, open_span: Callable[..., Any]) -> None:
    with open_span(agent_type=FakeAgentType("worker"), tracer=recorder.tracer):
        pass
    assert attributes(recorder.only())["gen_ai.agent.name"] == "worker"


def test_an_agent_id_as_first_argument_sets_name_and_id(recorder: Recorder) -> None:
    with trace_invoke_agent_span(FakeAgentId("worker", "k"), tracer=recorder.tracer, message_type="Task"):
        pass
    done = recorder.only()
    assert done.name == "invoke_agent worker"
    facts = attributes(done)
    assert (facts["gen_ai.agent.name"], facts["gen_ai.agent.id"]) == ("worker", "worker/k")
    assert facts["message_type"] == "Task"


def test_an_agent_id_that_is_given_beside_the_name_wins(recorder: Recorder) -> None:
    with trace_create_agent_span(FakeAgentId("a", "1"), agent_id=FakeAgentId("b", "2"), tracer=recorder.tracer):
        pass
    assert attributes(recorder.only())["gen_ai.agent.id"] == "b/2"


@pytest.mark.parametrize("names", [{}, {"agent_name": "a", "agent_type": "b"}])
def test_an_agent_span_needs_exactly_one_name(names: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="agent_name"), trace_create_agent_span(**names):  # type: ignore[arg-type]
        pass


def test_attributes_that_are_none_are_left_out_and_foreign_types_become_text(recorder: Recorder) -> None:
    with trace_tool_span("t", tracer=recorder.tracer, nothing=None, ident=FakeAgentId("a", "b"), ratio=0.5, on=True):
        pass
    facts = attributes(recorder.only())
    assert "nothing" not in facts
    assert (facts["ident"], facts["ratio"], facts["on"]) == ("a/b", 0.5, True)


def test_a_further_keyword_does_not_replace_a_spans_own_attribute(recorder: Recorder) -> None:
    with trace_tool_span("t", tracer=recorder.tracer, **{"gen_ai.tool.name": "forged"}):
        pass
    assert attributes(recorder.only())["gen_ai.tool.name"] == "t"


def test_the_given_parent_is_the_spans_parent(recorder: Recorder) -> None:
    parent = recorder.tracer.start_span("parent")
    with (
        recorder.tracer.start_as_current_span("current"),
        trace_tool_span("t", tracer=recorder.tracer, parent=parent) as child,
    ):
        assert isinstance(child, ReadableSpan)
        assert child.parent is not None
        assert child.parent.span_id == parent.get_span_context().span_id


def test_without_a_given_parent_the_current_span_is_the_parent(recorder: Recorder) -> None:
    with (
        recorder.tracer.start_as_current_span("current") as current,
        trace_tool_span("t", tracer=recorder.tracer) as child,
    ):
        assert isinstance(child, ReadableSpan)
        assert child.parent is not None
        assert child.parent.span_id == current.get_span_context().span_id


@pytest.mark.parametrize("open_span", [trace_create_agent_span, trace_invoke_agent_span, trace_tool_span])
def test_an_exception_is_recorded_once_and_passes_on(recorder: Recorder, open_span: Callable[..., Any]) -> None:
    with pytest.raises(KeyError), open_span("x", tracer=recorder.tracer):
        raise KeyError("boom")
    done = recorder.only()
    assert [event.name for event in done.events] == ["exception"]
    assert done.status.status_code is StatusCode.ERROR
    assert attributes(done)["error.type"] == "KeyError"


def test_without_a_tracer_the_global_provider_is_asked(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    monkeypatch.setattr("opentelemetry.trace.get_tracer", recorder.provider.get_tracer)
    with trace_tool_span("t"):
        pass
    scope = recorder.only().instrumentation_scope
    assert scope is not None
    assert scope.name == "hivewire"
