"""How an operator is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """What an operator is told at its start.

    Attributes:
        own_namespace: Where it runs, and where logins, ledgers and its Lease are.
        identity: What it is called among its replicas.
        lease: Name of the Lease.
        namespaces: The Kubernetes namespaces that it sees to. None: all.
        image: For pods of which neither the AgentDeployment nor the AgentSystem names one.
        monitor_labels: More labels of PodMonitors, by which Prometheus selects them.
        first_system: A file with an AgentSystem that is applied when the operator begins to lead, and when it changes.
    """

    own_namespace: str
    identity: str
    lease: str = "hivewire-operator"
    namespaces: tuple[str, ...] | None = None
    image: str = ""
    monitor_labels: Mapping[str, str] = field(default_factory=dict)
    first_system: Path | None = None
