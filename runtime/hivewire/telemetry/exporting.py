"""Sends spans to an OpenTelemetry collector, as the standard `OTEL_*` variables say.

Nothing is exported unless an endpoint or an exporter is named; then nothing is imported, and no span is made. A
collector that is away costs the spans and nothing else: they are sent from a thread, from a queue with an end.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.trace import ProxyTracerProvider

from hivewire.telemetry.export_settings import ExportSettings, export_settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler

__all__ = ["start_exporting"]

log = logging.getLogger("hivewire.telemetry")

LAST_SPANS_S: Final = 3.0
"""How long the end of a process is held up for its last spans."""

TOLD_EVERY_S: Final = 60.0
"""How often it is told that spans can't be delivered."""

_NEEDED: Final = (
    "opentelemetry.sdk.trace",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.exporter.otlp.proto.grpc",
)


def start_exporting(*, service: str, instance: str, environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Set the global tracer provider up, if the environment asks for it, and return what sends the last spans. A
    provider that the program has set is kept.

    Args:
        service: The `service.name` of the spans, unless the environment names another.
        instance: Their `service.instance.id`, likewise.

    Raises:
        ValueError: the environment asks for something that there is not; the text says what to change.
    """
    settings = export_settings(environment)
    if settings is None:
        return lambda: None
    if not isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
        log.info("the program has set a tracer provider, so the variables OTEL_* are left to that")
        return lambda: None
    if not all(_is_installed(module) for module in _NEEDED):
        raise ValueError("traces are to be exported (OTEL_* is set), which needs: pip install 'hivewire[otlp]'")
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    try:
        provider = TracerProvider(
            sampler=_sampler(settings),
            resource=Resource.create({"service.name": service, "service.instance.id": instance, **settings.attributes}),
            shutdown_on_exit=False,
        )
        processor = BatchSpanProcessor(
            _exporter(settings),
            max_queue_size=settings.max_queue,
            schedule_delay_millis=settings.delay_ms,
            max_export_batch_size=settings.max_batch,
        )
    except Exception as error:
        # Of a file with a certificate, say, which only the SDK reads.
        raise ValueError(f"traces can't be exported as OTEL_* says: {error}") from error
    provider.add_span_processor(processor)
    _tell_seldom()
    trace.set_tracer_provider(provider)
    return lambda: _end_within(provider.shutdown, LAST_SPANS_S)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _sampler(settings: ExportSettings) -> Sampler:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased

    kind = settings.sampler.removeprefix("parentbased_")
    root = {"always_on": ALWAYS_ON, "always_off": ALWAYS_OFF}.get(kind) or TraceIdRatioBased(settings.ratio)
    return root if kind == settings.sampler else ParentBased(root)


def _exporter(settings: ExportSettings) -> SpanExporter:
    if settings.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        # gRPC takes no names with capitals.
        headers = {name.lower(): value for name, value in settings.headers.items()}
        return GrpcExporter(endpoint=settings.endpoint, headers=headers, timeout=settings.timeout_s)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    return HttpExporter(endpoint=settings.endpoint, headers=dict(settings.headers), timeout=settings.timeout_s)


def _end_within(end: Callable[[], None], seconds: float) -> None:
    """Do what may take long, and leave it behind when it does."""
    ending = threading.Thread(target=end, name="hivewire: last spans", daemon=True)
    ending.start()
    ending.join(seconds)
    if ending.is_alive():
        log.warning("the last spans could not be sent within %g s and are lost", seconds)


def _tell_seldom() -> None:
    handler = _SeldomTold()
    for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False


class _SeldomTold(logging.Handler):
    """Tells of what the SDK warns of, which it does for each batch, now and then."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._told_at: float | None = None
        self._kept_back = 0

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock()
        if self._told_at is not None and now - self._told_at < TOLD_EVERY_S:
            self._kept_back += 1
            return
        more = f" ({self._kept_back} more such lines since the last one)" if self._kept_back else ""
        self._told_at, self._kept_back = now, 0
        log.warning("the export of spans has trouble: %s%s", record.getMessage(), more)
