"""Spans that programs open around their own agents and tools.

Names and attributes follow the OpenTelemetry semantic conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/). Each is a context manager: the span is current inside it, an
exception is recorded once, sets `error.type` and passes on.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from hivewire.telemetry import span_names as names
from hivewire.telemetry.recorded_span import RecordedSpan

__all__ = ["building_agent_span", "trace_create_agent_span", "trace_invoke_agent_span", "trace_tool_span"]

_SYSTEM: Final = "autogen"


@contextmanager
def trace_create_agent_span(
    agent_name: object | None = None,
    *,
    tracer: Tracer | None = None,
    parent: Span | None = None,
    agent_id: object | None = None,
    agent_description: str | None = None,
    agent_type: object | None = None,
    **attributes: object,
) -> Iterator[Span]:
    """Open the client span `create_agent <name>`.

    `agent_name` is a name or an agent id, which sets name and id; `agent_type` is another word for it. Further keywords
    become attributes, in their text form unless OpenTelemetry knows their type; those that are None are left out.

    While a runtime that traces builds an agent of this name, it is the runtime's span, which gets the attributes.

    Raises:
        TypeError: neither or both of `agent_name` and `agent_type` are given.
    """
    name, identity = _identify(agent_name, agent_type, agent_id)
    facts = _agent_facts("create_agent", name, identity, agent_description)
    building = _building.get()
    if building is not None and tracer is None and parent is None:
        built, span = building
        if built == name and span.is_recording():
            span.set_attributes(_attributes({**attributes, **facts}))
            yield span
            return
    with _span(f"create_agent {name}", SpanKind.CLIENT, tracer, parent, {**attributes, **facts}) as span:
        yield span


@contextmanager
def trace_invoke_agent_span(
    agent_name: object | None = None,
    *,
    tracer: Tracer | None = None,
    parent: Span | None = None,
    agent_id: object | None = None,
    agent_description: str | None = None,
    agent_type: object | None = None,
    **attributes: object,
) -> Iterator[Span]:
    """Open the client span `invoke_agent <name>`; parameters and errors as in `trace_create_agent_span`."""
    name, identity = _identify(agent_name, agent_type, agent_id)
    facts = _agent_facts("invoke_agent", name, identity, agent_description)
    with _span(f"invoke_agent {name}", SpanKind.CLIENT, tracer, parent, {**attributes, **facts}) as span:
        yield span


@contextmanager
def trace_tool_span(
    tool_name: str,
    *,
    tracer: Tracer | None = None,
    parent: Span | None = None,
    tool_description: str | None = None,
    tool_call_id: str | None = None,
    **attributes: object,
) -> Iterator[Span]:
    """Open the internal span `execute_tool <tool_name>`; further keywords become attributes."""
    facts = {
        names.GEN_AI_OPERATION: "execute_tool",
        names.GEN_AI_PROVIDER: _SYSTEM,
        names.GEN_AI_SYSTEM: _SYSTEM,
        names.GEN_AI_TOOL_NAME: tool_name,
        names.GEN_AI_TOOL_DESCRIPTION: tool_description,
        names.GEN_AI_TOOL_CALL_ID: tool_call_id,
    }
    with _span(f"execute_tool {tool_name}", SpanKind.INTERNAL, tracer, parent, {**attributes, **facts}) as span:
        yield span


@contextmanager
def building_agent_span(tracer: Tracer, agent: object) -> Iterator[Span]:
    """Open the span `create_agent <type>` of a runtime that builds an agent."""
    name, identity = _identify(agent, None, None)
    facts = _agent_facts("create_agent", name, identity, None)
    with _span(f"create_agent {name}", SpanKind.CLIENT, tracer, None, facts) as span:
        token = _building.set((name, span))
        try:
            yield span
        finally:
            _building.reset(token)


def _identify(
    agent_name: object | None, agent_type: object | None, agent_id: object | None
) -> tuple[str, object | None]:
    if (agent_name is None) == (agent_type is None):
        raise TypeError("An agent span needs agent_name or its other word agent_type, and not both.")
    agent = agent_type if agent_name is None else agent_name
    if agent_id is None and hasattr(agent, "type") and hasattr(agent, "key"):
        agent_id = agent
    return str(getattr(agent, "type", agent)), agent_id


def _agent_facts(
    operation: str, name: str, agent_id: object | None, agent_description: str | None
) -> Mapping[str, object | None]:
    return {
        names.GEN_AI_OPERATION: operation,
        names.GEN_AI_PROVIDER: _SYSTEM,
        names.GEN_AI_SYSTEM: _SYSTEM,
        names.GEN_AI_AGENT_NAME: name,
        names.GEN_AI_AGENT_ID: None if agent_id is None else str(agent_id),
        names.GEN_AI_AGENT_DESCRIPTION: agent_description,
    }


def _span(
    name: str, kind: SpanKind, tracer: Tracer | None, parent: Span | None, attributes: Mapping[str, object | None]
) -> RecordedSpan:
    return RecordedSpan(
        tracer or trace.get_tracer("hivewire"),
        name,
        kind=kind,
        context=None if parent is None else trace.set_span_in_context(parent),
        attributes=_attributes(attributes),
    )


def _attributes(values: Mapping[str, object | None]) -> dict[str, AttributeValue]:
    return {
        key: value if isinstance(value, str | bool | int | float) else str(value)
        for key, value in values.items()
        if value is not None
    }


_building: ContextVar[tuple[str, Span] | None] = ContextVar("hivewire_building_agent", default=None)
