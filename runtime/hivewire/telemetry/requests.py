"""Spans of a server around the requests that it answers over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hivewire.telemetry import span_names as names
from hivewire.telemetry.recorded_span import RecordedSpan
from hivewire.telemetry.tracing import recording_tracer

__all__ = ["RequestTracer", "ServedRequest"]

_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_W3C: Final = TraceContextTextMapPropagator()


class ServedRequest:
    """A request whose span is open."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def answered(self, status: int) -> None:
        """Note what it is answered with. What is the client's mistake is no error of a server's span."""
        self._span.set_attribute(names.HTTP_STATUS, status)
        if status >= 500:
            self._span.set_attribute(names.ERROR_TYPE, str(status))
            self._span.set_status(Status(StatusCode.ERROR))


class RequestTracer:
    """Opens the spans of one server. `records` is worked out as that of a `MessageTracer` is, at construction."""

    __slots__ = ("_tracer", "records")

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = recording_tracer(tracer_provider)
        self.records = self._tracer is not None

    @contextmanager
    def serving(
        self, method: str, route: str | None, *, scheme: str, parent: Mapping[str, str]
    ) -> Iterator[ServedRequest]:
        """Open the span of a request: a child of its client's. Nothing of a client is in it.

        Args:
            route: The template of its path; None: there is no such route.
            parent: The trace context that came with it.
        """
        assert self._tracer is not None
        known = method if method in _METHODS else "_OTHER"
        name = known if method in _METHODS else "HTTP"
        attributes = {names.HTTP_METHOD: known, names.URL_SCHEME: scheme}
        if route is not None:
            attributes[names.HTTP_ROUTE] = route
        with RecordedSpan(
            self._tracer,
            name if route is None else f"{name} {route}",
            kind=SpanKind.SERVER,
            attributes=attributes,
            # Not a child of what was going on when the server was started.
            context=_W3C.extract(parent, trace.set_span_in_context(INVALID_SPAN)),
        ) as span:
            yield ServedRequest(span)
