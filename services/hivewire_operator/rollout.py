"""What to do about the pods of a deployment: bring the wanted ones, wait, or take them back.

Templates are named by their hashes. The one whose pods became ready last is remembered as good. When those of the
wanted one don't become ready in time, the good one comes back, and the wanted one is remembered as rejected: the spec
still asks for it, and it must not be tried again until it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Progress = Literal["running", "ready", "idle", "failed"]
Step = Literal["apply wanted", "apply good", "wait", "remember good", "nothing"]

_EXCEEDED = "ProgressDeadlineExceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How things are.

    Attributes:
        wanted: The template that the spec asks for.
        current: The one that the Deployment has; None without a Deployment.
        good: The one whose pods were ready last; None: there was none yet.
        rejected: The one that was taken back; empty: none.
        may_roll_back: Whether the spec lets it.
    """

    wanted: str
    current: str | None
    progress: Progress
    good: str | None = None
    rejected: str = ""
    may_roll_back: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do, and what is rejected from now on."""

    step: Step
    rejected: str = ""


def decide(rollout: Rollout) -> Decision:
    """Return the next step. Taken again and again, it comes to rest at `nothing`."""
    wanted, current, good = rollout.wanted, rollout.current, rollout.good
    rejected = rollout.rejected if rollout.rejected == wanted else ""
    if rejected and rollout.may_roll_back and good is not None and good != wanted:
        return Decision(step="nothing" if current == good else "apply good", rejected=rejected)
    if current != wanted:
        return Decision(step="apply wanted")
    if rollout.progress == "idle":
        return Decision(step="nothing")
    if rollout.progress == "ready":
        return Decision(step="nothing" if good == wanted else "remember good")
    if rollout.progress == "failed" and rollout.may_roll_back and good is not None and good != wanted:
        return Decision(step="apply good", rejected=wanted)
    return Decision(step="wait")


def progress_of(
    deployment: Mapping[str, Any], *, now: datetime, deadline_s: float, scaled_at: datetime | None
) -> Progress:
    """Read from a Deployment how far it has come. One that is scaled to zero is idle, which proves nothing.

    Kubernetes counts the time only while templates change. A template that came while there were no pods is judged when
    they come, so here the time counts from the last change of either kind.

    Args:
        scaled_at: When the number of pods was last changed; None: not known.
    """
    status: Mapping[str, Any] = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "running"
    asked_for = (deployment.get("spec") or {}).get("replicas", 1)
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if not asked_for and not status.get("replicas", 0):
        return "idle"
    if updated == asked_for == available and status.get("replicas", 0) == updated:
        return "ready"
    changed_at = [scaled_at] if scaled_at is not None else []
    for condition in status.get("conditions") or ():
        if condition["type"] == "Progressing":
            if condition.get("reason") == _EXCEEDED:
                return "failed"
            changed_at.append(datetime.fromisoformat(condition["lastUpdateTime"]))
    is_late = bool(changed_at) and (now - max(changed_at)).total_seconds() > deadline_s
    return "failed" if is_late else "running"


def is_replacing(deployment: Mapping[str, Any]) -> bool:
    """Tell whether pods of one template are being replaced by those of another."""
    status: Mapping[str, Any] = deployment.get("status") or {}
    is_seen: bool = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return is_seen and bool(status.get("replicas", 0) > status.get("updatedReplicas", 0))
