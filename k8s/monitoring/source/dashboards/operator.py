"""What the operator does: reconciles and scaling."""

from __future__ import annotations

from k8s.monitoring.source.boards import NAMESPACE, Board, Row
from k8s.monitoring.source.panels import Query, lines, number
from k8s.monitoring.source.queries import IN_SYSTEM, quantile, rate, share_of, watched

_OF = f"{{{IN_SYSTEM}}}"
_RECONCILE = "hivewire_reconcile_total"

_NOW = Row(
    title="Now",
    panels=(
        number(
            "Leaders",
            "1 is right. 0: nothing is reconciled and nothing scaled.",
            "short",
            "sum(hivewire_leader)",
            width=6,
        ),
        number(
            "Objects that wait",
            "For a reconcile. Grows while the API server is slow, or reconciles fail.",
            "short",
            "sum(hivewire_queue_depth)",
            width=6,
            warn_at=50,
        ),
        number(
            "Deployments not scaled",
            "Somebody has paused them, or their lag is not known.",
            "short",
            f"sum({watched(f'hivewire_scaling_paused{_OF}', 'system', 'deployment')}) or vector(0)",
            width=6,
            warn_at=1,
        ),
        number(
            "Failed reconciles",
            "Share of all. The log of the leader names the object.",
            "percentunit",
            share_of(
                f'sum(rate({_RECONCILE}{{result="error"}}[$__rate_interval]))',
                f"sum(rate({_RECONCILE}[$__rate_interval]))",
            ),
            width=6,
            warn_at=0.01,
            alarm_at=0.1,
        ),
    ),
)

_SCALING = Row(
    title="Scaling",
    panels=(
        lines(
            "Replicas",
            "`desired` follows the load between `min` and `max`, and `ready` follows that. `desired` at `max` while the"
            " lag grows: raise `max`.",
            "short",
            Query(
                expr=watched(f"hivewire_deployment_replicas{_OF}", "system", "deployment", "type"),
                legend="{{deployment}} {{type}}",
            ),
        ),
        lines(
            "Lag by deployment",
            "What deployments are scaled by.",
            "short",
            Query(
                expr=watched(f"hivewire_deployment_lag_messages{_OF}", "system", "deployment"),
                legend="{{deployment}}",
            ),
        ),
        lines(
            "Changes of the number of replicas",
            "Up and down in turn: the target is too close to the load, or the cool-down too short.",
            "short",
            Query(
                expr=f"sum by (deployment, direction, reason) (increase(hivewire_scale_events_total{_OF}"
                "[$__rate_interval]))",
                legend="{{deployment}} {{direction}} {{reason}}",
            ),
        ),
        lines(
            "Rollouts that were taken back",
            "Each is a version that did not become ready in time.",
            "short",
            Query(
                expr=f"sum by (deployment) (increase(hivewire_rollbacks_total{_OF}[$__rate_interval]))",
                legend="{{deployment}}",
            ),
            alarm_at=1,
        ),
    ),
)

_RECONCILES = Row(
    title="Reconciles",
    panels=(
        lines(
            "Reconciles",
            "A second, by kind and result. Errors are tried again, ever more seldom.",
            "ops",
            Query(expr=rate(_RECONCILE, "kind", "result"), legend="{{kind}} {{result}}"),
        ),
        lines(
            "Time of a reconcile, p99",
            "Seconds are the API server or NATS, which the operator waits for.",
            "s",
            Query(expr=quantile(0.99, "hivewire_reconcile_duration_seconds", "", "kind"), legend="{{kind}}"),
        ),
    ),
)

OPERATOR = Board(
    uid="hivewire-operator",
    title="Hivewire / Operator",
    description="Whether the operator leads, what it scales, and what it fails at.",
    variables=(NAMESPACE,),
    rows=(_NOW, _SCALING, _RECONCILES),
)
