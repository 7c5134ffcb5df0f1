"""What the operator counts and measures, for Prometheus.

Beside these it exports what `hivewire.telemetry.metrics` declares of the whole system: lag, oldest event, shards
without owner. All are in the registry of the process. Labels are bounded by what is deployed: `deployment` is the name
of an AgentDeployment, `system` Hivewire's namespace, which follows from the Kubernetes namespace.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_DURATIONS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

RECONCILE = Counter(
    "hivewire_reconcile",
    "Reconciles of an object, by its kind and by result (ok, error).",
    ["kind", "result"],
)
RECONCILE_DURATION = Histogram(
    "hivewire_reconcile_duration_seconds",
    "Time that a reconcile took, by the kind of the object.",
    ["kind"],
    buckets=_DURATIONS_S,
)
QUEUE_DEPTH = Gauge("hivewire_queue_depth", "Objects that wait for a reconcile.")
LEADER = Gauge("hivewire_leader", "1 in the operator that leads, 0 in the others.")
DEPLOYMENT_REPLICAS = Gauge(
    "hivewire_deployment_replicas",
    "Replicas of a deployment, by type: desired, current, ready, min, max.",
    ["system", "deployment", "type"],
)
DEPLOYMENT_LAG_MESSAGES = Gauge(
    "hivewire_deployment_lag_messages",
    "Events that wait for the agent types of a deployment: what it is scaled by, beside its turns.",
    ["system", "deployment"],
)
SCALE_EVENTS = Counter(
    "hivewire_scale_events",
    "Changes of the number of replicas, by direction (up, down) and reason (load, wake, idle, limits).",
    ["system", "deployment", "direction", "reason"],
)
SCALING_PAUSED = Gauge(
    "hivewire_scaling_paused",
    "1 while a deployment is not scaled, as somebody said so or as its lag is not known.",
    ["system", "deployment"],
)
ROLLBACKS = Counter(
    "hivewire_rollbacks",
    "Rollouts that did not become ready in time and were taken back.",
    ["system", "deployment"],
)
