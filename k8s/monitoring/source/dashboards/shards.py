"""Who owns which shards, and how steady that is."""

from __future__ import annotations

from k8s.monitoring.source.boards import AGENT_TYPE, NAMESPACE, Board, Row
from k8s.monitoring.source.panels import Query, lines
from k8s.monitoring.source.queries import IN_SYSTEM, OF_TYPE, quantile, rate, total, watched

_PROCESS = ("instance", "pod")
_PROCESS_LEGEND = "{{pod}} {{instance}}"
_SLOTS = f"hivewire_handler_slots{{{IN_SYSTEM}}}"
_USED_SLOTS = f'hivewire_handler_slots{{{IN_SYSTEM}, state="used"}}'

_OWNERS = Row(
    title="Shards",
    panels=(
        lines(
            "Shards by process",
            "Should be nearly even. A process far above the others is the bottleneck; one at 0 serves no sharded type,"
            " or has lost its session.",
            "short",
            Query(expr=total(f"hivewire_shards_owned{{{OF_TYPE}}}", *_PROCESS), legend=_PROCESS_LEGEND),
            is_stacked=True,
        ),
        lines(
            "Shards without an owner",
            "Some for seconds after a process died are right. Longer: no process serves the type.",
            "short",
            Query(
                expr=watched(f"hivewire_shards_without_owner{{{OF_TYPE}}}", "system", "agent_type"),
                legend="{{agent_type}}",
            ),
            alarm_at=1,
        ),
        lines(
            "Lease changes",
            "Shards that moved. `released` and `claimed` at rollouts are right. `taken_over`: processes died."
            " `lost`: processes were cut off from the broker, or their event loops stood still.",
            "short",
            Query(
                expr=f"sum by (reason) (increase(hivewire_lease_changes_total{{{OF_TYPE}}}[$__rate_interval]))",
                legend="{{reason}}",
            ),
        ),
        lines(
            "Processes",
            "Living ones by deployment. `draining` ends within the drain time-out.",
            "short",
            Query(
                expr=watched(f"hivewire_sessions{{{IN_SYSTEM}}}", "system", "deployment", "state"),
                legend="{{deployment}} {{state}}",
            ),
        ),
    ),
)

_ROOM = Row(
    title="Room and connection",
    panels=(
        lines(
            "Turns in use",
            "Share of the turns that may run at once. At 1 new direct messages are refused as overloaded, and events"
            " wait.",
            "percentunit",
            Query(
                expr=f"{total(_USED_SLOTS, *_PROCESS)} / ({total(_SLOTS, *_PROCESS)} > 0)",
                legend=_PROCESS_LEGEND,
            ),
            warn_at=0.9,
        ),
        lines(
            "Broker connection",
            "0 while a process has none. With several processes in a pod, how many of them have one.",
            "short",
            Query(expr=total(f"hivewire_nats_connected{{{IN_SYSTEM}}}", *_PROCESS), legend=_PROCESS_LEGEND),
        ),
        lines(
            "Reconnects and slow consumers",
            "Reconnects of many processes at once: a server of NATS was away. Slow consumers: a process doesn't take"
            " what the broker sends, as its event loop is busy.",
            "short",
            Query(
                expr="sum by (instance, pod)"
                f" (increase(hivewire_nats_reconnects_total{{{IN_SYSTEM}}}[$__rate_interval]))",
                legend=f"reconnects {_PROCESS_LEGEND}",
            ),
            Query(
                expr="sum by (instance, pod)"
                f" (increase(hivewire_nats_slow_consumer_total{{{IN_SYSTEM}}}[$__rate_interval]))",
                legend=f"slow {_PROCESS_LEGEND}",
            ),
        ),
        lines(
            "Publishing, p99",
            "From sending an event to its acknowledgement. Rises with the disk of NATS, and with its replicas.",
            "s",
            Query(
                expr=quantile(0.99, "hivewire_publish_duration_seconds", IN_SYSTEM, "system"),
                legend="p99 {{system}}",
            ),
        ),
        lines(
            "Published events",
            "A second, by topic. `error`: the broker did not take or not acknowledge them.",
            "ops",
            Query(
                expr=rate(f"hivewire_messages_published_total{{{IN_SYSTEM}}}", "topic", "result"),
                legend="{{topic}} {{result}}",
            ),
        ),
        lines(
            "Payload sizes, p99",
            "By direction. The broker refuses messages above its `max_payload`, 1 MB unless it is set.",
            "bytes",
            Query(
                expr=quantile(0.99, "hivewire_message_size_bytes", IN_SYSTEM, "direction"),
                legend="{{direction}}",
            ),
            warn_at=1_000_000,
        ),
    ),
)

SHARDS = Board(
    uid="hivewire-shards",
    title="Hivewire / Shards and leases",
    description="Who owns which shards, whether that is steady, and how much room processes have.",
    variables=(NAMESPACE, AGENT_TYPE),
    rows=(_OWNERS, _ROOM),
)
