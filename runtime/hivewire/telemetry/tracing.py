"""Spans that a runtime opens around the messages it moves.

Most programs run without tracing, and a runtime asks several times per message, so the question has a plain attribute
as its answer (`MessageTracer.enabled`) that is worked out once. One trace spans processes because the context of the
sender's span travels in message headers (W3C Trace Context, https://www.w3.org/TR/trace-context/) and is the parent
of the receiver's.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    SpanKind,
    Tracer,
    TracerProvider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

__all__ = ["MessageTracer", "Operation"]

Operation = Literal["create", "send", "publish", "intercept", "process", "ack"]
"""The step on a message's way that a span covers."""


class MessageTracer:
    """Open the spans of one runtime.

    `enabled` is False when `AUTOGEN_DISABLE_RUNTIME_TRACING` or `HIVEWIRE_DISABLE_RUNTIME_TRACING` is `true`, and
    when the tracer provider (the given one, else the global one) records nothing. It is worked out at construction
    and again by `refresh()`: a global provider that is set in between counts from the next `refresh()` on.

    A tracer that is not enabled does no work: `span` gives a span that records nothing, `inject` gives no headers.
    """

    __slots__ = ("_instance", "_provider", "_tracer", "enabled")

    def __init__(self, tracer_provider: TracerProvider | None, *, instance: str) -> None:
        self._provider = tracer_provider
        self._instance = instance
        self._tracer: Tracer | None = None
        self.enabled = self.refresh()

    def refresh(self) -> bool:
        """Work out anew whether there is somebody to trace for, and return it; runtimes do this when they start."""
        self._tracer = _recording_tracer(self._provider)
        self.enabled = self._tracer is not None
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
        if self._tracer is None:
            return _NO_SPAN
        return self._tracer.start_as_current_span(
            f"autogen {operation} {destination}",
            context=_W3C.extract(parent, get_current()) if parent else None,
            kind=_KINDS[operation],
            attributes={
                **(attributes or {}),
                "messaging.operation": _OPERATION_TYPES[operation],
                "messaging.destination": destination,
                "messaging.client.id": self._instance,
            },
        )

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


_W3C = TraceContextTextMapPropagator()
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
    "send": "publish",
    "publish": "publish",
    "intercept": "receive",
    "process": "process",
    "ack": "receive",
}

_SWITCHES = ("AUTOGEN_DISABLE_RUNTIME_TRACING", "HIVEWIRE_DISABLE_RUNTIME_TRACING")


def _recording_tracer(provider: TracerProvider | None) -> Tracer | None:
    if any(os.environ.get(switch, "").strip().lower() == "true" for switch in _SWITCHES):
        return None
    if provider is None or isinstance(provider, ProxyTracerProvider):
        provider = trace.get_tracer_provider()
    # The global provider stays a proxy until the program sets one.
    if isinstance(provider, ProxyTracerProvider | NoOpTracerProvider):
        return None
    return provider.get_tracer("hivewire")
