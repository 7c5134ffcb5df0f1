"""The export of spans: what it costs when nobody wants it, and what becomes of it without a collector."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec as real_find_spec
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import ProxyTracerProvider

from hivewire.cli.errors import UsageError
from hivewire.cli.exporting import export_spans
from hivewire.telemetry import exporting
from hivewire.telemetry.exporting import start_exporting
from otlp_receivers import Received, grpc_receiver, http_receiver

NOBODY = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture
def set_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The global provider, as if this were a process of its own."""
    world = SimpleNamespace(provider=ProxyTracerProvider())
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: world.provider)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda provider: setattr(world, "provider", provider))
    loggers = [logging.getLogger(name) for name in ("opentelemetry.exporter", "opentelemetry.sdk")]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    yield world
    for logger, (handlers, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate


def test_without_variables_nothing_is_imported_and_nothing_is_set() -> None:
    program = (
        "import sys\nfrom hivewire.telemetry.exporting import start_exporting\nfrom opentelemetry import trace\n"
        "start_exporting(service='s', instance='i', environment={'OTEL_SERVICE_NAME': 'x'})()\n"
        "print(type(trace.get_tracer_provider()).__name__)\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "ProxyTracerProvider\n[]\n"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_spans_come_with_the_name_of_their_service_and_instance(set_provider: Any, protocol: str) -> None:
    received = Received()
    with (grpc_receiver if protocol == "grpc" else http_receiver)(received) as address:
        stop = start_exporting(
            service="desks",
            instance="desks-1",
            environment={
                "OTEL_EXPORTER_OTLP_ENDPOINT": address,
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_EXPORTER_OTLP_HEADERS": "X-Token=t",
                "OTEL_RESOURCE_ATTRIBUTES": "team=blue",
            },
        )
        with set_provider.provider.get_tracer("test").start_as_current_span("a span"):
            pass
        stop()
    (span,) = received.spans
    resource = {name: span.resource[name] for name in ("service.name", "service.instance.id", "team")}
    assert (span.name, resource) == (
        "a span",
        {"service.name": "desks", "service.instance.id": "desks-1", "team": "blue"},
    )
    assert received.headers["x-token"] == "t"


def test_what_the_environment_calls_the_service_goes_first(set_provider: Any) -> None:
    environment = {**NOBODY, "OTEL_RESOURCE_ATTRIBUTES": "service.name=mine"}
    start_exporting(service="desks", instance="i", environment=environment)()
    assert set_provider.provider.resource.attributes["service.name"] == "mine"


@pytest.mark.parametrize(
    ("sampler", "shown"),
    [
        ("always_on", "AlwaysOnSampler"),
        ("always_off", "AlwaysOffSampler"),
        ("traceidratio", "TraceIdRatioBased{0.25}"),
        ("parentbased_traceidratio", "ParentBased{root:TraceIdRatioBased{0.25}"),
        ("parentbased_always_off", "ParentBased{root:AlwaysOffSampler"),
    ],
)
def test_the_sampler_is_the_one_that_is_named(set_provider: Any, sampler: str, shown: str) -> None:
    environment = {**NOBODY, "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    start_exporting(service="s", instance="i", environment=environment)()
    assert set_provider.provider.sampler.get_description().startswith(shown)


def test_the_provider_of_the_program_is_kept(set_provider: Any) -> None:
    own = set_provider.provider = TracerProvider()
    start_exporting(service="s", instance="i", environment=NOBODY)()
    assert set_provider.provider is own


def test_a_missing_extra_is_told(set_provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(module: str) -> object:
        if "grpc" in module:
            raise ModuleNotFoundError(module)
        return real_find_spec(module)

    monkeypatch.setattr(exporting, "find_spec", found)
    with pytest.raises(ValueError, match=r"pip install 'hivewire\[otlp\]'"):
        start_exporting(service="s", instance="i", environment=NOBODY)


def test_what_only_the_sdk_reads_is_told_in_one_line_too(set_provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_ATTRIBUTE_COUNT_LIMIT", "many")
    with pytest.raises(ValueError, match="traces can't be exported as OTEL_") as raised:
        start_exporting(service="s", instance="i", environment=NOBODY)
    assert "\n" not in str(raised.value)


def test_the_command_line_calls_it_a_mistake_of_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(UsageError, match="OTEL_TRACES_EXPORTER=zipkin"):
        export_spans(service="s", instance="i")


def test_a_collector_that_never_answers_holds_nobody_up_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    never = threading.Event()
    begun = time.monotonic()
    exporting._end_within(never.wait, 0.05)  # type: ignore[arg-type]
    assert time.monotonic() - begun < 5
    assert "the last spans could not be sent within 0.05 s and are lost" in caplog.text
    never.set()


def test_trouble_is_told_now_and_then_and_not_for_each_batch(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    handler = exporting._SeldomTold(clock=lambda: now)
    logger = logging.Logger("sdk")
    logger.addHandler(handler)
    for now in (0.0, 1.0, 59.0, 60.0, 61.0):
        logger.warning("attempt %d failed", now)
        logger.info("nothing that matters")
    assert [record.getMessage() for record in caplog.records] == [
        "the export of spans has trouble: attempt 0 failed",
        "the export of spans has trouble: attempt 60 failed (2 more such lines since the last one)",
    ]
