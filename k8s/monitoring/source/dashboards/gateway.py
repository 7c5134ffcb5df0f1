"""What clients get over HTTP."""

from __future__ import annotations

from k8s.monitoring.source.boards import NAMESPACE, Board, Row
from k8s.monitoring.source.panels import Query, lines, number
from k8s.monitoring.source.queries import GATEWAY_ERROR, IN_SYSTEM, quantile, rate, share_of

_OF = f"{{{IN_SYSTEM}}}"
_REQUESTS = "hivewire_gateway_requests_total"
_DURATION = "hivewire_gateway_request_duration_seconds"

_NOW = Row(
    title="Now",
    panels=(
        number(
            "Requests",
            "Answered a second, streams included.",
            "reqps",
            f"sum(rate({_REQUESTS}{_OF}[$__rate_interval]))",
            width=4,
        ),
        number(
            "Errors",
            "Share of 5xx. Yellow: more than the objective of 99.9 % allows. Red: its month is used up in two days.",
            "percentunit",
            share_of(
                f"sum(rate({_REQUESTS}{{{IN_SYSTEM}, {GATEWAY_ERROR}}}[$__rate_interval]))",
                f"sum(rate({_REQUESTS}{_OF}[$__rate_interval]))",
            ),
            width=5,
            warn_at=0.001,
            alarm_at=0.0144,
        ),
        number(
            "In flight",
            "Requests that are being answered, without streams.",
            "short",
            f"sum(hivewire_gateway_requests_in_flight{_OF})",
            width=5,
        ),
        number(
            "Streams",
            "Open streams of server-sent events.",
            "short",
            f"sum(hivewire_gateway_streams_open{_OF})",
            width=5,
        ),
        number(
            "Workers over HTTP",
            "Open WebSockets of workers.",
            "short",
            f"sum(hivewire_gateway_websockets_open{_OF})",
            width=5,
        ),
    ),
)

_REQUEST = Row(
    title="Requests",
    panels=(
        lines(
            "Requests by code",
            "500: a handler failed. 502: a worker was lost. 503: the broker is away, or the gateway is full. 504: a"
            " deadline passed. 429: a client has used up its rate, or agents have no room.",
            "reqps",
            Query(expr=rate(f"{_REQUESTS}{_OF}", "code"), legend="{{code}}"),
            is_stacked=True,
        ),
        lines(
            "Errors by route",
            "Share of 5xx. One route: look at its agents. All routes: look at the broker.",
            "percentunit",
            Query(
                expr=share_of(
                    rate(f"{_REQUESTS}{{{IN_SYSTEM}, {GATEWAY_ERROR}}}", "route"), rate(f"{_REQUESTS}{_OF}", "route")
                ),
                legend="{{route}}",
            ),
            warn_at=0.001,
            alarm_at=0.0144,
        ),
        lines(
            "Time, p50",
            "To the end of the answer, without streams.",
            "s",
            Query(expr=quantile(0.5, _DURATION, IN_SYSTEM, "route"), legend="{{route}}"),
        ),
        lines(
            "Time, p99",
            "Direct messages take as long as their handlers. Events should stay near the acknowledgement time below.",
            "s",
            Query(expr=quantile(0.99, _DURATION, IN_SYSTEM, "route"), legend="{{route}}"),
        ),
    ),
)

_EVENTS = Row(
    title="Events",
    panels=(
        lines(
            "Events by result",
            "`duplicate`: sent again with the same id, and stored once. `rejected`: not stored, or not known to be.",
            "ops",
            Query(expr=rate(f"hivewire_gateway_events_total{_OF}", "result"), legend="{{result}}"),
            is_stacked=True,
        ),
        lines(
            "Acknowledgement by the broker",
            "From sending an event to the broker until it is stored. Rises with the disk of NATS.",
            "s",
            Query(
                expr=quantile(0.5, "hivewire_gateway_publish_ack_duration_seconds", IN_SYSTEM, "system"),
                legend="p50 {{system}}",
            ),
            Query(
                expr=quantile(0.99, "hivewire_gateway_publish_ack_duration_seconds", IN_SYSTEM, "system"),
                legend="p99 {{system}}",
            ),
        ),
        lines(
            "Event sizes",
            "Of those that were stored.",
            "bytes",
            Query(
                expr=quantile(0.5, "hivewire_gateway_event_size_bytes", IN_SYSTEM, "system"), legend="p50 {{system}}"
            ),
            Query(
                expr=quantile(0.99, "hivewire_gateway_event_size_bytes", IN_SYSTEM, "system"), legend="p99 {{system}}"
            ),
        ),
        lines(
            "Rate limited",
            "Requests that were answered with 429, a second. Steady: a client needs another limit, or should wait.",
            "reqps",
            Query(expr=rate(f"hivewire_gateway_rate_limited_total{_OF}", "route"), legend="{{route}}"),
        ),
    ),
)

GATEWAY = Board(
    uid="hivewire-gateway",
    title="Hivewire / Gateway",
    description="What clients get over HTTP: codes, times, events.",
    variables=(NAMESPACE,),
    rows=(_NOW, _REQUEST, _EVENTS),
)
