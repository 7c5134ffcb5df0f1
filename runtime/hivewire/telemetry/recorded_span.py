"""A span that is current for a while, and that tells of the error which ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from hivewire.telemetry.span_names import ERROR_TYPE

__all__ = ["RecordedSpan", "end_span", "record_error"]


class RecordedSpan:
    """Opens a span for the body of a `with` statement. An exception is recorded once, sets `error.type`, passes on.

    Args:
        context: Holds its parent; None is the current context.
        open_after_error: Leave it to `end_span` to end the span after an exception, for what is still to be told.
    """

    __slots__ = ("_arguments", "_open_after_error", "_span", "_token", "_tracer")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        *,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        context: Context | None = None,
        links: Sequence[Link] = (),
        open_after_error: bool = False,
    ) -> None:
        self._tracer = tracer
        self._arguments = name, context, kind, attributes, links
        self._open_after_error = open_after_error
        self._span: Span
        self._token: Token[Context]

    def __enter__(self) -> Span:
        self._span = self._tracer.start_span(*self._arguments)
        self._token = attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        detach(self._token)
        if error is not None:
            record_error(self._span, error)
            if self._open_after_error:
                return
        self._span.end()


def record_error(span: Span, error: BaseException) -> None:
    """Let a span tell of the error that it ends with. A cancellation is one too, and has nothing more to tell."""
    if not span.is_recording() or isinstance(error, GeneratorExit):
        return
    span.set_attribute(ERROR_TYPE, type(error).__name__)
    if isinstance(error, asyncio.CancelledError):
        span.set_status(Status(StatusCode.ERROR))
        return
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, str(error)))


def end_span(
    span: Span | None, *, event: str | None = None, attributes: Mapping[str, AttributeValue] | None = None
) -> None:
    """End a span that may be open still, after an event that tells what follows. One that has ended stays as it is."""
    if span is None or not span.is_recording():
        return
    if event is not None:
        span.add_event(event, attributes)
    span.end()
