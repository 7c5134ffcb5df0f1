"""Spans that programs open around their own agents and tools.

Names and attributes follow the OpenTelemetry semantic conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/). Each is a context manager: the span is current inside it, an
exception is recorded once, sets `error.type` and passes on.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

__all__ = ["trace_create_agent_span", "trace_invoke_agent_span", "trace_tool_span"]

_SYSTEM = "autogen"


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

    Raises:
        TypeError: neither or both of `agent_name` and `agent_type` are given.
    """
    name, identity = _identify(agent_name, agent_type, agent_id)
    facts = _agent_facts("create_agent", name, identity, agent_description)
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
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.system": _SYSTEM,
        "gen_ai.tool.name": tool_name,
        "gen_ai.tool.description": tool_description,
        "gen_ai.tool.call.id": tool_call_id,
    }
    with _span(f"execute_tool {tool_name}", SpanKind.INTERNAL, tracer, parent, {**attributes, **facts}) as span:
        yield span


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
        "gen_ai.operation.name": operation,
        "gen_ai.system": _SYSTEM,
        "gen_ai.agent.name": name,
        "gen_ai.agent.id": None if agent_id is None else str(agent_id),
        "gen_ai.agent.description": agent_description,
    }


@contextmanager
def _span(
    name: str, kind: SpanKind, tracer: Tracer | None, parent: Span | None, attributes: Mapping[str, object | None]
) -> Iterator[Span]:
    if tracer is None:
        tracer = trace.get_tracer("hivewire")
    with tracer.start_as_current_span(
        name,
        context=None if parent is None else trace.set_span_in_context(parent),
        kind=kind,
        attributes={key: _attribute(value) for key, value in attributes.items() if value is not None},
        # Recorded below, together with error.type; both would give two events for one exception.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except Exception as error:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, str(error)))
            span.set_attribute("error.type", type(error).__name__)
            raise


def _attribute(value: object) -> AttributeValue:
    if isinstance(value, str | bool | int | float):
        return value
    return str(value)
