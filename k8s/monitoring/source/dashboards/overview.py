"""Is all well? If not, which dashboard tells more?"""

from __future__ import annotations

from k8s.monitoring.source.boards import NAMESPACE, Board, Row
from k8s.monitoring.source.panels import Query, lines, number, table
from k8s.monitoring.source.queries import (
    FAILED,
    GATEWAY_ERROR,
    HANDLED,
    IN_SYSTEM,
    JOBS,
    rate,
    share_of,
    total,
    watched,
)

_PROCESSED = "hivewire_messages_processed_total"
_REQUESTS = "hivewire_gateway_requests_total"
_IS_OURS = f"and on (job, instance) hivewire_build_info{{{IN_SYSTEM}}}"

_SERVING = f'hivewire_sessions{{{IN_SYSTEM}, state="serving"}}'

_NOW = Row(
    title="Now",
    panels=(
        number(
            "Processes that serve",
            "Living workers that take messages. None: nothing is handled; see the alert HivewireWorkersGone.",
            "short",
            f"sum({watched(_SERVING, 'system', 'deployment')}) or vector(0)",
        ),
        number(
            "Events that wait",
            "Stored events that are not finished, of all agent types. A number that only grows needs more workers.",
            "short",
            f"sum({watched(f'hivewire_shard_lag_messages{{{IN_SYSTEM}}}', 'system', 'agent_type')})",
        ),
        number(
            "Oldest event",
            "Age of the oldest event that is not finished. Red: above the target, whatever the number that waits.",
            "s",
            f"max(hivewire_shard_oldest_event_seconds{{{IN_SYSTEM}}})",
            warn_at=60,
            alarm_at=300,
        ),
        number(
            "Dead letters",
            "Messages that agents gave up and nobody has looked at: `hivewire dead ls` shows them.",
            "short",
            f"sum({watched(f'hivewire_dead_letters{{{IN_SYSTEM}}}', 'system', 'agent_type')}) or vector(0)",
            warn_at=1,
        ),
        number(
            "Messages that fail",
            "Share of finished messages whose handler raised an error, or that were given up.",
            "percentunit",
            share_of(
                f"sum(rate({_PROCESSED}{{{IN_SYSTEM}, {FAILED}}}[$__rate_interval]))",
                f"sum(rate({_PROCESSED}{{{IN_SYSTEM}, {HANDLED}}}[$__rate_interval]))",
            ),
            warn_at=0.01,
            alarm_at=0.1,
        ),
        number(
            "Shards without an owner",
            "Shards whose events nobody handles. Above 0 for longer than some seconds: see Shards and leases.",
            "short",
            f"sum({watched(f'hivewire_shards_without_owner{{{IN_SYSTEM}}}', 'system', 'agent_type')}) or vector(0)",
            alarm_at=1,
        ),
        number(
            "Gateway errors",
            "Share of HTTP requests that were answered with 5xx. See Gateway for which codes.",
            "percentunit",
            share_of(
                f"sum(rate({_REQUESTS}{{{IN_SYSTEM}, {GATEWAY_ERROR}}}[$__rate_interval]))",
                f"sum(rate({_REQUESTS}{{{IN_SYSTEM}}}[$__rate_interval]))",
            ),
            warn_at=0.001,
            alarm_at=0.0144,
        ),
        number(
            "Processes without broker",
            "Processes whose connection to NATS is down. They take no messages until it is back.",
            "short",
            f"count(hivewire_nats_connected{{{IN_SYSTEM}}} == 0) or vector(0)",
            alarm_at=1,
        ),
    ),
)

_ALERTS = Row(
    title="Alerts",
    panels=(
        table(
            "Alerts that fire",
            "What Hivewire's alert rules find wrong. Each has a page in docs/runbooks that says what to do.",
            'ALERTS{alertname=~"Hivewire.*", alertstate="firing"}',
        ),
    ),
)

_WORK = Row(
    title="Work",
    panels=(
        lines(
            "Messages by result",
            "Messages that were finished, a second. `ok` should be nearly all; `dropped` are those that an intervention"
            " handler stopped.",
            "ops",
            Query(expr=rate(f"{_PROCESSED}{{{IN_SYSTEM}}}", "result"), legend="{{result}}"),
            is_stacked=True,
        ),
        lines(
            "Handling time, p99",
            "99 of 100 attempts took less. From the recording rules. A step up of one type is often a slow service that"
            " it calls.",
            "s",
            Query(
                expr=f"system_agent_type:hivewire_message_process_duration_seconds:p99_5m{{{IN_SYSTEM}}}",
                legend="{{agent_type}}",
            ),
        ),
        lines(
            "Events that wait, by type",
            "Hills are load; a slope that goes on is a type with too few workers, or a stuck one.",
            "short",
            Query(
                expr=watched(f"hivewire_shard_lag_messages{{{IN_SYSTEM}}}", "system", "agent_type"),
                legend="{{agent_type}}",
            ),
        ),
        lines(
            "Oldest event, by type",
            "A line that rises by a second a second is an event that nobody finishes: a stuck key, or no owner.",
            "s",
            Query(
                expr=watched(f"hivewire_shard_oldest_event_seconds{{{IN_SYSTEM}}}", "system", "agent_type"),
                legend="{{agent_type}}",
            ),
            alarm_at=300,
        ),
    ),
)

_PROCESSES = Row(
    title="Processes",
    panels=(
        lines(
            "Memory",
            "Resident memory by process. A line that never falls again is a leak, or agents that are never passivated.",
            "bytes",
            Query(
                expr=total(f"process_resident_memory_bytes{{{JOBS}}} {_IS_OURS}", "instance", "pod"),
                legend="{{pod}} {{instance}}",
            ),
        ),
        lines(
            "Processor time",
            "Cores in use by process. An event loop uses at most one: a line at 1 is a process at its limit.",
            "short",
            Query(
                expr=total(
                    f"rate(process_cpu_seconds_total{{{JOBS}}}[$__rate_interval]) {_IS_OURS}", "instance", "pod"
                ),
                legend="{{pod}} {{instance}}",
            ),
            warn_at=0.9,
        ),
    ),
)

OVERVIEW = Board(
    uid="hivewire-overview",
    title="Hivewire / Overview",
    description="Whether all is well, in one look. Every number that is not green has a dashboard of its own.",
    variables=(NAMESPACE,),
    rows=(_NOW, _ALERTS, _WORK, _PROCESSES),
)
