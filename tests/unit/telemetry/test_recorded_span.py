"""Spans that tell of the error which ends them."""

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode, get_current_span

from hivewire.telemetry import end_span
from hivewire.telemetry.recorded_span import RecordedSpan


class Recorder:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def span(self, *, open_after_error: bool = False) -> RecordedSpan:
        tracer = self.provider.get_tracer("test")
        return RecordedSpan(tracer, "span", kind=SpanKind.INTERNAL, attributes={}, open_after_error=open_after_error)

    @property
    def ended(self) -> list[tuple[StatusCode, list[str], str | None]]:
        """Status, events and type of the error of each span that has ended."""
        return [
            (span.status.status_code, [event.name for event in span.events], (span.attributes or {}).get("error.type"))
            for span in self.exporter.get_finished_spans()
        ]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_a_span_is_current_until_its_body_ends(recorder: Recorder) -> None:
    with recorder.span() as span:
        assert get_current_span() is span
    assert get_current_span() is INVALID_SPAN
    assert recorder.ended == [(StatusCode.UNSET, [], None)]


def test_an_error_is_recorded_once(recorder: Recorder) -> None:
    with pytest.raises(KeyError), recorder.span():
        raise KeyError("boom")
    assert recorder.ended == [(StatusCode.ERROR, ["exception"], "KeyError")]


def test_a_cancellation_is_an_error_without_a_story(recorder: Recorder) -> None:
    with pytest.raises(asyncio.CancelledError), recorder.span():
        raise asyncio.CancelledError
    assert recorder.ended == [(StatusCode.ERROR, [], "CancelledError")]


def test_a_generator_that_nobody_reads_on_has_not_failed(recorder: Recorder) -> None:
    def numbers():
        with recorder.span():
            yield 1

    generator = numbers()
    next(generator)
    generator.close()
    assert recorder.ended == [(StatusCode.UNSET, [], None)]


def test_one_that_is_left_open_tells_what_follows(recorder: Recorder) -> None:
    with pytest.raises(KeyError), recorder.span(open_after_error=True) as span:
        raise KeyError("boom")
    assert recorder.ended == []
    end_span(span, event="retry", attributes={"hivewire.attempt": 1})
    end_span(span, event="dead_letter")
    assert recorder.ended == [(StatusCode.ERROR, ["exception", "retry"], "KeyError")]


def test_one_that_ended_well_has_nothing_to_tell(recorder: Recorder) -> None:
    with recorder.span(open_after_error=True) as span:
        pass
    end_span(span, event="retry")
    end_span(None)
    assert recorder.ended == [(StatusCode.UNSET, [], None)]
