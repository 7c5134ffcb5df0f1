"""What a gateway counts and measures, for Prometheus.

Each gateway has a registry of its own, so several may live in one process. Labels are bounded by the program, never by
what clients send: a route is a template, and all requests that match none share one value. `system` is Hivewire's
namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hivewire.health import Page, metrics_page
from hivewire.relay import Stored

_DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SIZES_BYTES = (64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304)


class Metrics:
    """The instruments, by their names without the prefix `hivewire_`."""

    def __init__(self, system: str) -> None:
        self._system = system
        self.registry = CollectorRegistry()
        events = Counter(
            "hivewire_gateway_events",
            "Events by what became of them; rejected ones were not stored, or not known to be.",
            ["system", "result"],
            registry=self.registry,
        )
        self._accepted, self._duplicate, self._rejected = (
            events.labels(system, result) for result in ("accepted", "duplicate", "rejected")
        )
        self._event_sizes = Histogram(
            "hivewire_gateway_event_size_bytes",
            "Sizes of events that were stored.",
            ["system"],
            buckets=_SIZES_BYTES,
            registry=self.registry,
        ).labels(system)
        self._acknowledgements = Histogram(
            "hivewire_gateway_publish_ack_duration_seconds",
            "Time from sending an event to the broker until it is acknowledged.",
            ["system"],
            buckets=_DURATIONS_S,
            registry=self.registry,
        ).labels(system)
        self._requests = Counter(
            "hivewire_gateway_requests",
            "Requests that were answered.",
            ["system", "route", "code", "mode"],
            registry=self.registry,
        )
        self._durations = Histogram(
            "hivewire_gateway_request_duration_seconds",
            "Time from a request to the end of its answer, without streams and WebSockets.",
            ["system", "route"],
            buckets=_DURATIONS_S,
            registry=self.registry,
        )
        self._rate_limited = Counter(
            "hivewire_gateway_rate_limited",
            "Requests that were answered with 429.",
            ["system", "route"],
            registry=self.registry,
        )
        self.requests_in_flight = self._gauge(
            "requests_in_flight", "Requests that are being answered, without streams."
        )
        self.streams_open = self._gauge("streams_open", "Answers that are streams of server-sent events.")
        self.websockets_open = self._gauge("websockets_open", "WebSockets of workers that are open.")
        self._answered: dict[tuple[str, int, str], Counter] = {}

    @contextmanager
    def storing(self, size_bytes: int) -> Iterator[Callable[[Stored], None]]:
        """Count an event: `with metrics.storing(size) as note: note(await store(...))`; without a note as rejected."""
        begun = perf_counter()
        results: list[Stored] = []
        try:
            yield results.append
        finally:
            if results:
                self._acknowledgements.observe(perf_counter() - begun)
                self._event_sizes.observe(size_bytes)
                (self._duplicate if results[0].duplicate else self._accepted).inc()
            else:
                self._rejected.inc()

    def answered(self, *, route: str, code: int, mode: str, duration_s: float | None) -> None:
        """Count a request; the duration of streams and WebSockets is None."""
        key = (route, code, mode)
        counter = self._answered.get(key)
        if counter is None:
            counter = self._answered[key] = self._requests.labels(self._system, route, str(code), mode)
        counter.inc()
        if code == 429:
            self._rate_limited.labels(self._system, route).inc()
        if duration_s is not None:
            self._durations.labels(self._system, route).observe(duration_s)

    def _gauge(self, name: str, text: str) -> Gauge:
        gauge = Gauge(f"hivewire_gateway_{name}", text, ["system"], registry=self.registry, multiprocess_mode="livesum")
        return gauge.labels(self._system)

    def page(self) -> Page:
        """Return all of it, and all else that the process counts, for Prometheus. May be called from any thread."""
        return metrics_page(self.registry)
