"""The broker, as prometheus-nats-exporter sees it. Its names are in nats-exporter-metrics.txt."""

from __future__ import annotations

from k8s.monitoring.source.boards import Board, Row
from k8s.monitoring.source.panels import Query, lines, number
from k8s.monitoring.source.queries import total

_LEADER = 'is_stream_leader="true"'
_CONSUMER_LEADER = 'is_consumer_leader="true", consumer_name!~"[0-9a-f]{16}"'
"""Readers that come and go have such names. Those that were left behind lag until the server removes them."""

_SERVERS = Row(
    title="Servers",
    panels=(
        number(
            "Servers that are not healthy",
            "By their own health check: JetStream is off, or a stream is not up to date.",
            "short",
            "sum(gnatsd_healthz_status)",
            width=6,
            alarm_at=1,
        ),
        number(
            "Connections",
            "Of all servers. Each process of Hivewire has one.",
            "short",
            "sum(gnatsd_varz_connections)",
            width=6,
        ),
        number(
            "Slow consumers",
            "Clients that were cut off, since the servers started, as they did not take their messages.",
            "short",
            "sum(gnatsd_varz_slow_consumers)",
            width=6,
            warn_at=1,
        ),
        number(
            "Storage in use",
            "Share of what JetStream may use on its fullest server. Full: nothing more is stored.",
            "percentunit",
            "max(jetstream_server_total_message_bytes / (jetstream_server_max_storage > 0))",
            width=6,
            warn_at=0.7,
            alarm_at=0.9,
        ),
        lines(
            "Messages",
            "A second, in and out of each server.",
            "ops",
            Query(expr="sum by (server_id) (rate(gnatsd_varz_in_msgs[$__rate_interval]))", legend="in {{server_id}}"),
            Query(expr="sum by (server_id) (rate(gnatsd_varz_out_msgs[$__rate_interval]))", legend="out {{server_id}}"),
        ),
        lines(
            "Bytes",
            "A second, in and out of each server.",
            "Bps",
            Query(expr="sum by (server_id) (rate(gnatsd_varz_in_bytes[$__rate_interval]))", legend="in {{server_id}}"),
            Query(
                expr="sum by (server_id) (rate(gnatsd_varz_out_bytes[$__rate_interval]))", legend="out {{server_id}}"
            ),
        ),
        lines(
            "Memory",
            "Resident memory of each server.",
            "bytes",
            Query(expr=total("gnatsd_varz_mem", "server_id"), legend="{{server_id}}"),
        ),
        lines(
            "Processor time",
            "100 is a whole core.",
            "percent",
            Query(expr=total("gnatsd_varz_cpu", "server_id"), legend="{{server_id}}"),
        ),
    ),
)

_JETSTREAM = Row(
    title="JetStream",
    panels=(
        lines(
            "Messages by stream",
            "`..._EVENTS` has events until all types have finished them and their retention is over; `..._DEAD` dead"
            " letters; `KV_...` registry, leases, positions and states.",
            "short",
            Query(
                expr=f"max by (stream_name) (jetstream_stream_total_messages{{{_LEADER}}})", legend="{{stream_name}}"
            ),
        ),
        lines(
            "Bytes by stream",
            "A stream that nears its limit takes no more: give it more, or shorten the retention.",
            "bytes",
            Query(expr=f"max by (stream_name) (jetstream_stream_total_bytes{{{_LEADER}}})", legend="{{stream_name}}"),
        ),
        lines(
            "Stored messages",
            "A second, by stream.",
            "ops",
            Query(
                expr=f"max by (stream_name) (rate(jetstream_stream_last_seq{{{_LEADER}}}[$__rate_interval]))",
                legend="{{stream_name}}",
            ),
        ),
        lines(
            "Consumers by stream",
            "Readers of a stream. Stateless types have lasting ones; others come and go with the processes.",
            "short",
            Query(
                expr=f"max by (stream_name) (jetstream_stream_consumer_count{{{_LEADER}}})", legend="{{stream_name}}"
            ),
        ),
        lines(
            "Not yet delivered",
            "By lasting consumer: one for each stateless type, whose lag this is, and `forward` for schedules.",
            "short",
            Query(
                expr=f"max by (stream_name, consumer_name) (jetstream_consumer_num_pending{{{_CONSUMER_LEADER}}})",
                legend="{{stream_name}} {{consumer_name}}",
            ),
        ),
        lines(
            "Delivered, not yet acknowledged",
            "By lasting consumer. At its limit it delivers no more: its processes are too slow.",
            "short",
            Query(
                expr=f"max by (stream_name, consumer_name) (jetstream_consumer_num_ack_pending{{{_CONSUMER_LEADER}}})",
                legend="{{stream_name}} {{consumer_name}}",
            ),
        ),
    ),
)

NATS = Board(
    uid="hivewire-nats",
    title="Hivewire / NATS and JetStream",
    description="The broker's servers, streams and consumers, from prometheus-nats-exporter.",
    variables=(),
    rows=(_SERVERS, _JETSTREAM),
)
