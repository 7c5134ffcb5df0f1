"""Spans that a runtime opens around the messages it moves.

Most programs run without tracing, and a runtime asks several times per message, so the question has a plain attribute
as its answer that is worked out once. One trace spans processes because the context of the sender's span travels in
message headers (W3C Trace Context, https://www.w3.org/TR/trace-context/) and is the parent of the receiver's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Token
from typing import Any, Literal, Protocol

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    SpanKind,
    Tracer,
    TracerProvider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from hivewire.telemetry import span_names as names
from hivewire.telemetry.recorded_span import RecordedSpan
from hivewire.telemetry.spans import building_agent_span

__all__ = ["MessageTracer", "Operation", "recording_tracer"]

Operation = Literal["create", "send", "publish", "intercept", "process", "ack"]
"""The step on a message's way that a span covers."""


class _AgentId(Protocol):
    @property
    def type(self) -> str: ...

    @property
    def key(self) -> str: ...


class MessageTracer:
    """Open the spans of one runtime.

    `enabled` tells whether there is anything to do for tracing: open spans, or carry the context of others on.
    `records` tells whether spans are opened. Both are False when `AUTOGEN_DISABLE_RUNTIME_TRACING` or
    `HIVEWIRE_DISABLE_RUNTIME_TRACING` is `true`, and when the tracer provider (the given one, else the global one)
    records nothing. They are worked out at construction and again by `refresh()`: a global provider that is set in
    between counts from the next `refresh()` on.

    A tracer that records nothing does no work: `span` gives a span that records nothing, `inject` gives no headers.

    Args:
        instance: The `messaging.client.id` of its spans.
        system: Their `messaging.system`.
        template_of: Returns where messages to an agent or a topic go, without what tells one key from another.
    """

    __slots__ = ("_common", "_provider", "_template_of", "_tracer", "enabled", "records")

    def __init__(
        self,
        tracer_provider: TracerProvider | None,
        *,
        instance: str,
        system: str | None = None,
        template_of: Callable[[Any], str] | None = None,
    ) -> None:
        self._provider = tracer_provider
        self._template_of = template_of
        self._common: dict[str, AttributeValue] = {names.MESSAGING_CLIENT_ID: instance}
        if system is not None:
            self._common[names.MESSAGING_SYSTEM] = system
        self._tracer: Tracer | None = None
        self.records = False
        self.enabled = self.refresh()

    def refresh(self) -> bool:
        """Work out anew whether there is somebody to trace for, and return it; runtimes do this when they start."""
        self._tracer = recording_tracer(self._provider)
        self.records = self.enabled = self._tracer is not None
        return self.enabled

    def span(
        self,
        operation: Operation,
        destination: str,
        *,
        parent: Mapping[str, str] | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> AbstractContextManager[Span]:
        """Open the span `autogen <operation> <destination>` and make it the current one.

        Its parent is the span that the headers in `parent` name; without a valid `traceparent` in them, the current
        span. An exception that leaves the context is recorded and passes on.
        """
        return self._span(operation, destination, attributes or {}, parent=parent)

    def creating(
        self,
        destination: object,
        *,
        type_name: str,
        message_id: str | None = None,
        parent: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Span]:
        """Open the span around the sending of a message to an agent or a topic, until its outcome is known.

        With a `parent` of another trace it has a link to the current span.
        """
        if self._tracer is None:
            return _NO_SPAN
        attributes = {names.AUTOGEN_MESSAGE_TYPE: type_name, **self._template(destination)}
        if message_id is not None:
            attributes[names.MESSAGING_MESSAGE_ID] = message_id
        return self._span(
            "create",
            self.destination_of(destination),
            attributes,
            parent=parent,
            link_to=get_current() if parent and not _is_current_trace(parent) else None,
        )

    def processing(
        self,
        agent: _AgentId,
        *,
        message_id: str,
        type_name: str,
        topic: object | None,
        parent: Mapping[str, str],
        attempt: int | None,
        group: str | None = None,
        payload: str | None = None,
        open_after_error: bool = False,
    ) -> AbstractContextManager[Span]:
        """Open the span around the handling of a message by an agent: a child of its sender's.

        Args:
            topic: None for a direct message.
            parent: The headers that came with the message.
            attempt: The how-manieth it is, for an event; None for a message that is not handled again. Many may handle
                an event, so its span has a link to the publisher's too.
            group: The consumers among which messages of this kind are shared out.
            payload: The contents, only where they are to be seen.
            open_after_error: Leave it to `end_span` to end it after an error.
        """
        if self._tracer is None:
            return _NO_SPAN
        attributes: dict[str, AttributeValue] = {
            names.MESSAGING_MESSAGE_ID: message_id,
            names.AUTOGEN_MESSAGE_TYPE: type_name,
            **self._template(agent if topic is None else topic),
            names.GEN_AI_AGENT_NAME: agent.type,
            names.GEN_AI_AGENT_ID: str(agent),
        }
        if group is not None:
            attributes[names.MESSAGING_CONSUMER_GROUP] = group
        if attempt is not None:
            attributes[names.ATTEMPT] = attempt
        if payload is not None:
            attributes[names.AUTOGEN_MESSAGE] = payload
        return self._span(
            "process",
            self.destination_of(agent),
            attributes,
            parent=parent,
            link_to=None if attempt is None else _W3C.extract(parent, _NOTHING),
            open_after_error=open_after_error,
        )

    def building(self, agent: _AgentId) -> AbstractContextManager[Span]:
        """Open the span `create_agent <type>` around the building of an agent; one that the agent's own code opens
        meanwhile for the same name is this one."""
        return _NO_SPAN if self._tracer is None else building_agent_span(self._tracer, agent)

    def attach(self, headers: Mapping[str, str]) -> Token[Any]:
        """Make the span that some headers name the current one, or none, until `detach`: what is done for a message has
        nothing to do with the span in which somebody started the runtime."""
        return attach(_W3C.extract(headers, trace.set_span_in_context(INVALID_SPAN)))

    def detach(self, token: Token[Any]) -> None:
        """Undo an `attach`."""
        detach(token)

    @contextmanager
    def continuing(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Do, in the body of the `with` statement, what is done for a message; see `attach`."""
        if not self.enabled:
            yield
            return
        token = self.attach(headers)
        try:
            yield
        finally:
            self.detach(token)

    def name_message(self, message_id: str) -> None:
        """Let the current span, one of `creating`, tell the id that its message got."""
        trace.get_current_span().set_attribute(names.MESSAGING_MESSAGE_ID, message_id)

    def inject(self) -> dict[str, str]:
        """Return the headers that name the current span: `traceparent`, and `tracestate` if it has one."""
        headers: dict[str, str] = {}
        if self._tracer is not None:
            _W3C.inject(headers)
        return headers

    @staticmethod
    def destination_of(agent_or_topic: object) -> str:
        """Return how spans name an agent id: `type.(key)-A`; a topic id: `type.(source)-T`; else the thing's text."""
        key = getattr(agent_or_topic, "key", None)
        if key is not None:
            return f"{getattr(agent_or_topic, 'type', '')}.({key})-A"
        source = getattr(agent_or_topic, "source", None)
        if source is not None:
            return f"{getattr(agent_or_topic, 'type', '')}.({source})-T"
        return str(agent_or_topic)

    def _span(
        self,
        operation: Operation,
        destination: str,
        attributes: Mapping[str, AttributeValue],
        *,
        parent: Mapping[str, str] | None,
        link_to: Context | None = None,
        open_after_error: bool = False,
    ) -> AbstractContextManager[Span]:
        if self._tracer is None:
            return _NO_SPAN
        context = _W3C.extract(parent, get_current()) if parent else None
        return RecordedSpan(
            self._tracer,
            f"autogen {operation} {destination}",
            kind=_KINDS[operation],
            context=context,
            links=() if link_to is None else _links_to(link_to),
            open_after_error=open_after_error,
            attributes={
                **attributes,
                **self._common,
                names.MESSAGING_OPERATION_NAME: operation,
                names.MESSAGING_OPERATION_TYPE: _OPERATION_TYPES[operation],
                names.AUTOGEN_OPERATION: _AUTOGEN_OPERATIONS[operation],
                names.AUTOGEN_DESTINATION: destination,
            },
        )

    def _template(self, destination: object) -> dict[str, AttributeValue]:
        if self._template_of is None:
            return {}
        return {names.MESSAGING_DESTINATION_TEMPLATE: self._template_of(destination)}


_W3C = TraceContextTextMapPropagator()
_NOTHING = Context()
_NO_SPAN: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)

_KINDS: Mapping[Operation, SpanKind] = {
    "create": SpanKind.PRODUCER,
    "send": SpanKind.PRODUCER,
    "publish": SpanKind.PRODUCER,
    "intercept": SpanKind.CONSUMER,
    "process": SpanKind.CONSUMER,
    "ack": SpanKind.CONSUMER,
}

_OPERATION_TYPES: Mapping[Operation, str] = {
    "create": "create",
    "send": "send",
    "publish": "send",
    "intercept": "receive",
    "process": "process",
    "ack": "settle",
}

_AUTOGEN_OPERATIONS: Mapping[Operation, str] = {
    "create": "create",
    "send": "publish",
    "publish": "publish",
    "intercept": "receive",
    "process": "process",
    "ack": "receive",
}

_SWITCHES = ("AUTOGEN_DISABLE_RUNTIME_TRACING", "HIVEWIRE_DISABLE_RUNTIME_TRACING")


def _is_current_trace(headers: Mapping[str, str]) -> bool:
    named = trace.get_current_span(_W3C.extract(headers, _NOTHING)).get_span_context()
    return named.trace_id == trace.get_current_span().get_span_context().trace_id


def _links_to(context: Context) -> tuple[Link, ...]:
    span = trace.get_current_span(context).get_span_context()
    return (Link(span),) if span.is_valid else ()


def recording_tracer(provider: TracerProvider | None) -> Tracer | None:
    """Return what opens the spans of Hivewire at a provider, by default the global one; None: nobody records any."""
    if any(os.environ.get(switch, "").strip().lower() == "true" for switch in _SWITCHES):
        return None
    if provider is None or isinstance(provider, ProxyTracerProvider):
        provider = trace.get_tracer_provider()
    # The global provider stays a proxy until the program sets one.
    if isinstance(provider, ProxyTracerProvider | NoOpTracerProvider):
        return None
    return provider.get_tracer("hivewire")
