"""The trace of others, carried on."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider

from hivewire.telemetry import PassingTracer, passed_on_trace, passing_on

HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "tracestate": "a=b"}


def test_a_tracer_that_records_nothing_carries_the_trace_on_as_it_is() -> None:
    tracer = PassingTracer(NoOpTracerProvider(), instance="w1")
    assert (tracer.enabled, tracer.records) == (True, False)
    assert tracer.inject() == {}
    with passing_on(HEADERS):
        assert passed_on_trace() == tracer.inject() == HEADERS
    with tracer.continuing(HEADERS):
        assert tracer.inject() == HEADERS
    assert tracer.inject() == {}


def test_a_tracer_that_records_carries_its_own_spans_on() -> None:
    tracer = PassingTracer(TracerProvider(), instance="w1")
    assert (tracer.enabled, tracer.records) == (True, True)
    with passing_on(HEADERS):
        assert tracer.inject() == {}
    with tracer.continuing(HEADERS):
        # The flag too: what nobody samples goes on as such.
        assert tracer.inject() == HEADERS
        with tracer.creating("a.(b)-A", type_name="Text"):
            trace, flags = (tracer.inject()["traceparent"].split("-")[part] for part in (1, 3))
            assert (trace, flags) == ("0af7651916cd43dd8448eb211c80319c", "00")
