"""What an operator exports, with values as of one that scales a deployment up and down."""

from __future__ import annotations

import math
import sys
import time

from prometheus_client import start_http_server

from hivewire_operator import metrics

TURN_S = 60.0


def main(system: str) -> None:
    server, _ = start_http_server(0, addr="127.0.0.1")
    print(f"/metrics is served on port {server.server_port}", flush=True)
    metrics.LEADER.set(1)
    metrics.DEPLOYMENT_REPLICAS.labels(system, "web", "min").set(1)
    metrics.DEPLOYMENT_REPLICAS.labels(system, "web", "max").set(8)
    metrics.SCALING_PAUSED.labels(system, "web").set(0)
    metrics.ROLLBACKS.labels(system, "web")
    before = 0
    while True:
        load = 1 + math.sin(time.time() / TURN_S * math.tau)
        before = _scale(system, load, before)
        metrics.QUEUE_DEPTH.set(round(2 * load))
        for kind, result in (("AgentDeployment", "ok"), ("AgentDeployment", "error"), ("AgentSubscription", "ok")):
            metrics.RECONCILE.labels(kind, result).inc(0.02 if result == "error" else 1)
            metrics.RECONCILE_DURATION.labels(kind).observe(0.02 + 0.05 * load)
        time.sleep(0.2)


def _scale(system: str, load: float, before: int) -> int:
    """Set replicas and lag for a load between 0 and 2, and return the replicas."""
    replicas = 1 + round(3 * load)
    metrics.DEPLOYMENT_LAG_MESSAGES.labels(system, "web").set(round(40 * load))
    for kind in ("desired", "current", "ready"):
        metrics.DEPLOYMENT_REPLICAS.labels(system, "web", kind).set(replicas)
    if replicas != before:
        direction = "up" if replicas > before else "down"
        metrics.SCALE_EVENTS.labels(system, "web", direction, "load").inc()
    return replicas


if __name__ == "__main__":
    main(sys.argv[1])
