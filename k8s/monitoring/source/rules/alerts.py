"""When somebody is told. Each alert has a page in docs/runbooks, and cases that make it fire and not fire.

A counter has its first sample when something is counted first, and `increase` sees no growth in it; `_grew` does.
What one elected process exports of the whole system is taken as the `max` over processes, of which there may be two
while another is elected, and none while all workers are gone.
"""

from __future__ import annotations

from k8s.monitoring.source.queries import JOBS, rate, share_of, watched
from k8s.monitoring.source.rules.recording import CONFLICT_RATIO, RETRY_RATIO, gateway_error_ratio
from k8s.monitoring.source.rules.rule_file import Alert

OLDEST_EVENT_TARGET_S = 300
GATEWAY_ERROR_BUDGET = 0.001
"""The share of requests that may fail: an objective of 99.9 % over 30 days."""

_TYPE = ("system", "agent_type")
_DEPLOYMENT = ("system", "deployment")


def _grew(counter: str, window: str, *by: str) -> str:
    """By how much a counter grew, the sample included that it began with in the window."""
    increase, new = f"increase({counter}[{window}]) > 0", f"({counter} unless {counter} offset {window}) > 0"
    return f"sum by ({', '.join(by)}) (\n  {increase}\n  or\n  {new}\n)"


def _burns(factor: float, short: str, long: str) -> str:
    """Errors use up the budget so many times too fast, over a long window and still over a short one.

    https://sre.google/workbook/alerting-on-slos/#6-multiwindow-multi-burn-rate-alerts
    """
    limit = f"{factor:g} * {GATEWAY_ERROR_BUDGET:g}"
    return f"{gateway_error_ratio(long)} > {limit}\nand\n{gateway_error_ratio(short)} > {limit}"


_LAG = watched("hivewire_shard_lag_messages", *_TYPE)
_DEAD = watched("hivewire_dead_letters", *_TYPE)
# The maximum of some minutes, as nobody may have told it for a moment while another process was elected.
_DEAD_BEFORE = f"max_over_time({_DEAD}[5m:] offset 15m)"
_ACCEPTED = rate('hivewire_gateway_events_total{result="accepted"}', "system", over="5m")
_REPLICAS = 'max by (system, deployment) (hivewire_deployment_replicas{type="%s"})'

ALERTS: tuple[Alert, ...] = (
    Alert(
        name="HivewireLagGrowsAtMaximum",
        severity="critical",
        expr=(
            f"max by ({', '.join(_DEPLOYMENT)}) (deriv(hivewire_deployment_lag_messages[10m])) > 0\n"
            f"and {_REPLICAS % 'current'} >= {_REPLICAS % 'max'}"
        ),
        holds_for="10m",
        summary="The lag of {{ $labels.deployment }} in {{ $labels.system }} grows, and it may not get more replicas",
        description="The deployment has had its maximum of replicas for 10 minutes, and events still come faster than"
        " they are handled: {{ $value | humanize }} more a second.",
    ),
    Alert(
        name="HivewireOldestEventOverTarget",
        severity="warning",
        expr=f"{watched('hivewire_shard_oldest_event_seconds', *_TYPE)} > {OLDEST_EVENT_TARGET_S}",
        holds_for="5m",
        summary="An event for {{ $labels.agent_type }} in {{ $labels.system }} has waited for"
        " {{ $value | humanizeDuration }}",
        description="The oldest event that is not finished is older than 5 minutes. Either all events of the type wait,"
        " or those of one key.",
    ),
    Alert(
        name="HivewireDeadLetters",
        severity="warning",
        expr=(
            f"{_DEAD} - {_DEAD_BEFORE} > 0\nor\n"
            + _grew('hivewire_messages_processed_total{result="dead_letter"}', "15m", *_TYPE)
        ),
        holds_for="0m",
        summary="{{ $labels.agent_type }} in {{ $labels.system }} gave up messages",
        description="About {{ $value | humanize }} messages became dead letters within 15 minutes. They stay until"
        " somebody replays or removes them.",
    ),
    Alert(
        name="HivewireRetryRatioHigh",
        severity="warning",
        expr=f"{RETRY_RATIO} > 0.2",
        holds_for="10m",
        summary="{{ $value | humanizePercentage }} of the attempts of {{ $labels.agent_type }} in {{ $labels.system }}"
        " fail and are repeated",
        description="More than a fifth of all attempts have failed for 10 minutes. What goes on failing becomes dead"
        " letters.",
    ),
    Alert(
        name="HivewireShardWithoutOwner",
        severity="critical",
        expr=f"{watched('hivewire_shards_without_owner', *_TYPE)} > 0\nand {_LAG} > 0",
        holds_for="2m",
        summary="{{ $value }} shards of {{ $labels.agent_type }} in {{ $labels.system }} have no owner",
        description="Events wait for them. After the end of a process others take its shards within seconds; here none"
        " has for 2 minutes, so no living process serves the type, or those that do can't take shards.",
    ),
    Alert(
        name="HivewireWorkersGone",
        severity="critical",
        expr=(
            "(\n  sum by (system) (hivewire_shard_lag_messages) > 0\n"
            "  unless sum by (system) (hivewire_sessions) > 0\n)\n"
            "or\n(\n"
            "  (\n"
            "    last_over_time(sum by (system) (hivewire_shard_lag_messages)[1h:]) > 0\n"
            f"    or {_ACCEPTED} > 0\n"
            "  )\n"
            "  unless sum by (system) (hivewire_shard_lag_messages)\n)"
        ),
        holds_for="3m",
        summary="No worker lives in {{ $labels.system }}, and events wait",
        description="There are no sessions while events wait, or nobody is left to tell: nothing has exported the"
        " lag for 3 minutes, though events waited at last or the gateway takes more.",
    ),
    Alert(
        name="HivewireEventsExpired",
        severity="critical",
        expr=_grew("hivewire_events_expired_total", "1h", *_TYPE),
        holds_for="0m",
        summary="Events for {{ $labels.agent_type }} in {{ $labels.system }} are lost",
        description="About {{ $value | humanize }} events left the stream within an hour before the type had finished"
        " them. Somebody removed them, or the stream has a limit that drops old events.",
    ),
    Alert(
        name="HivewireStateConflictsHigh",
        severity="warning",
        expr=f"{CONFLICT_RATIO} > 0.05",
        holds_for="10m",
        summary="{{ $value | humanizePercentage }} of the states of {{ $labels.agent_type }} in {{ $labels.system }}"
        " can't be written",
        description="Some conflicts while shards move are right. For 10 minutes, two processes have written the same"
        " agents' states, so turns are dropped and repeated.",
    ),
    Alert(
        name="HivewireBrokerLost",
        severity="critical",
        expr="count by (system) (hivewire_nats_connected == 0)",
        holds_for="1m",
        summary="{{ $value }} processes of {{ $labels.system }} have no connection to NATS",
        description="They take no messages, and gateways answer 503. They connect again by themselves once the broker"
        " is back.",
    ),
    Alert(
        name="HivewireLagUnreadable",
        severity="warning",
        expr=f"{rate('hivewire_lag_read_errors_total', 'system', over='5m')} > 0",
        holds_for="10m",
        summary="The lag of {{ $labels.system }} can't be read",
        description="For 10 minutes, reading the system has failed again and again. Lag, oldest event and shards"
        " without an owner show what was read before, so other alerts may be silent.",
    ),
    Alert(
        name="HivewireGatewayErrorsFast",
        severity="critical",
        expr=_burns(14.4, "5m", "1h"),
        holds_for="2m",
        summary="{{ $value | humanizePercentage }} of the HTTP requests to {{ $labels.system }} fail",
        description="At this rate the errors that a month may have are used up in two days.",
    ),
    Alert(
        name="HivewireGatewayErrorsSlow",
        severity="warning",
        expr=_burns(6, "30m", "6h"),
        holds_for="15m",
        summary="{{ $value | humanizePercentage }} of the HTTP requests to {{ $labels.system }} have failed for hours",
        description="At this rate the errors that a month may have are used up in five days.",
    ),
    Alert(
        name="HivewireOperatorWithoutLeader",
        severity="critical",
        expr=(
            "sum by (job, namespace) (hivewire_leader) == 0\nor\n"
            "count by (job, namespace) (count_over_time(hivewire_leader[1h]))"
            " unless count by (job, namespace) (hivewire_leader)"
        ),
        holds_for="2m",
        summary="No operator leads",
        description="None of the operators leads, or the last one was lost within the hour. Nothing is reconciled and"
        " nothing scaled; workers go on as they are.",
    ),
    Alert(
        name="HivewireReconcileErrors",
        severity="warning",
        expr=(
            share_of(
                rate('hivewire_reconcile_total{result="error"}', "kind", over="5m"),
                rate("hivewire_reconcile_total", "kind", over="5m"),
            )
            + " > 0.1"
        ),
        holds_for="10m",
        summary="{{ $value | humanizePercentage }} of the reconciles of {{ $labels.kind }} fail",
        description="More than a tenth have failed for 10 minutes: what is deployed is not what its manifest says.",
    ),
    Alert(
        name="HivewireTargetDown",
        severity="warning",
        expr=f"up{{{JOBS}}} == 0\nor\nabsent(up{{{JOBS}}})",
        holds_for="5m",
        summary="Prometheus can't read {{ $labels.job }} {{ $labels.instance }}",
        description="A process does not answer at /metrics, or no scrape job whose name begins with hivewire has a"
        " target. Other alerts are blind to what is not read.",
    ),
)
