"""Rates, quantiles and ratios that alerts need, and that are dear to compute again and again."""

from __future__ import annotations

from k8s.monitoring.source.queries import FAILED, GATEWAY_ERROR, HANDLED, quantile, rate, share_of
from k8s.monitoring.source.rules.rule_file import Recording

ERROR_RATIO = "system_agent_type:hivewire_messages_failed:ratio_rate5m"
RETRY_RATIO = "system_agent_type:hivewire_message_retries:ratio_rate5m"
CONFLICT_RATIO = "system_agent_type:hivewire_state_conflicts:ratio_rate5m"
_BY = ("system", "agent_type")
_PROCESSED = "hivewire_messages_processed_total"
_REQUESTS = "hivewire_gateway_requests_total"


def gateway_error_ratio(window: str) -> str:
    """Return the name of the ratio over one of the windows of `_GATEWAY_WINDOWS`."""
    return f"system:hivewire_gateway_errors:ratio_rate{window}"


_GATEWAY_WINDOWS = ("5m", "30m", "1h", "6h")


def _quantiles(metric: str) -> list[Recording]:
    return [
        Recording(
            name=f"system_agent_type:{metric}:p{round(share * 100)}_5m",
            expr=quantile(share, metric, "", *_BY, over="5m"),
        )
        for share in (0.5, 0.99)
    ]


RECORDINGS: tuple[Recording, ...] = (
    Recording(
        name="system_agent_type_result:hivewire_messages_processed:rate5m",
        expr=rate(_PROCESSED, *_BY, "result", over="5m"),
    ),
    Recording(
        name=ERROR_RATIO,
        expr=share_of(
            rate(f"{_PROCESSED}{{{FAILED}}}", *_BY, over="5m"), rate(f"{_PROCESSED}{{{HANDLED}}}", *_BY, over="5m")
        ),
    ),
    Recording(
        name=RETRY_RATIO,
        expr=share_of(
            rate("hivewire_message_retries_total", *_BY, over="5m"),
            rate("hivewire_message_process_duration_seconds_count", *_BY, over="5m"),
        ),
    ),
    Recording(
        name=CONFLICT_RATIO,
        expr=share_of(
            rate("hivewire_state_conflicts_total", *_BY, over="5m"),
            rate("hivewire_state_save_duration_seconds_count", *_BY, over="5m"),
        ),
    ),
    *_quantiles("hivewire_message_process_duration_seconds"),
    *_quantiles("hivewire_message_queue_latency_seconds"),
    *(
        Recording(
            name=gateway_error_ratio(window),
            expr=share_of(
                rate(f"{_REQUESTS}{{{GATEWAY_ERROR}}}", "system", over=window), rate(_REQUESTS, "system", over=window)
            ),
        )
        for window in _GATEWAY_WINDOWS
    ),
)
