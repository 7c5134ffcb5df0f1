"""What the status of an AgentDeployment says. Without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hivewire_operator.autoscaling import Scaling
from hivewire_operator.cluster import Object
from hivewire_operator.conditions import Finding
from hivewire_operator.names import DEPLOYMENT_LABEL
from hivewire_operator.resources.agent_deployment import AgentDeploymentSpec
from hivewire_operator.rollout import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """How an AgentDeployment is.

    Attributes:
        deployment: Its Deployment; None: there is none yet.
        rejected: The template that was taken back; empty: none.
        refused: What stands against its agent types in the registry; None: nothing.
    """

    spec: AgentDeploymentSpec
    deployment: Object | None
    progress: Progress
    rejected: str
    refused: Finding | None
    scaling: Scaling


def fields_of(picture: Picture, found: Object, *, now: datetime) -> dict[str, Any]:
    """Return the fields beside the conditions."""
    status: Mapping[str, Any] = (picture.deployment or {}).get("status") or {}
    return {
        "replicas": status.get("replicas", 0),
        "readyReplicas": status.get("readyReplicas", 0),
        "selector": f"{DEPLOYMENT_LABEL}={found['metadata']['name']}",
        "phase": phase_of(picture),
        "rejectedTemplate": picture.rejected,
        "lag": picture.scaling.lag,
        "load": picture.scaling.load,
        **({} if picture.scaling.wanted is None else {"desiredReplicas": picture.scaling.wanted}),
        **({} if picture.scaling.change is None else {"lastScaleTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}),
    }


def phase_of(picture: Picture) -> str:
    """Return how it is, in one word."""
    if picture.refused is not None and picture.refused.status == "False":
        return "Failed"
    if picture.rejected:
        return "RolledBack"
    if picture.deployment is None:
        return "Pending"
    return {"idle": "Idle", "ready": "Running", "failed": "Failed", "running": "Progressing"}[picture.progress]


def findings_of(picture: Picture) -> list[Finding]:
    """Return the conditions that tell of the pods."""
    findings = [
        Finding(type="Accepted", status="True", reason="Accepted", message="The spec makes sense."),
        picture.refused
        or Finding(type="Provisioned", status="True", reason="Provisioned", message="The agent types are registered."),
        _deployed(picture),
        _rolled_back(picture),
        *picture.scaling.findings,
    ]
    return [*findings, _ready(picture)]


def _deployed(picture: Picture) -> Finding:
    seconds = picture.spec.rollout.progress_deadline_seconds
    match picture.progress:
        case "ready":
            return Finding(type="Deployed", status="True", reason="PodsReady", message="All pods are ready.")
        case "idle":
            return Finding(type="Deployed", status="True", reason="NoPods", message="There are to be no pods now.")
        case "failed":
            return Finding(
                type="Deployed", status="False", reason="NotReadyInTime", message=f"Not ready within {seconds} s."
            )
        case _:
            return Finding(type="Deployed", status="False", reason="Progressing", message="Pods are on their way.")


def _rolled_back(picture: Picture) -> Finding:
    if not picture.rejected:
        return Finding(type="RolledBack", status="False", reason="AsWanted", message="The pods are those of the spec.")
    return Finding(
        type="RolledBack",
        status="True",
        reason="NotReadyInTime",
        message="The pods that the spec asks for were not ready within"
        f" {picture.spec.rollout.progress_deadline_seconds} s, so those of before are back. They are not tried again"
        " until the spec changes.",
    )


def _ready(picture: Picture) -> Finding:
    if picture.refused is not None and picture.refused.status == "False":
        return Finding(type="Ready", status="False", reason=picture.refused.reason, message=picture.refused.message)
    status: Mapping[str, Any] = (picture.deployment or {}).get("status") or {}
    if picture.progress == "idle":
        return Finding(type="Ready", status="True", reason="Idle", message="Pods come when there is something to do.")
    if status.get("availableReplicas", 0):
        return Finding(type="Ready", status="True", reason="PodsReady", message="Pods take messages.")
    return Finding(type="Ready", status="False", reason="NoPodReady", message="No pod takes messages yet.")
