"""What to do about the pods of a deployment: bring the wanted ones, wait, or take them back.

Templates are named by their hashes. The one whose pods became ready last is remembered as good. When those of the
wanted one don't become ready in time, the good one comes back, and the wanted one is remembered as rejected: the spec
still asks for it, and it must not be tried again until it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Progress = Literal["running", "ready", "failed"]
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
    if rollout.progress == "ready":
        return Decision(step="nothing" if good == wanted else "remember good")
    if rollout.progress == "failed" and rollout.may_roll_back and good is not None and good != wanted:
        return Decision(step="apply good", rejected=wanted)
    return Decision(step="wait")


def progress_of(deployment: Mapping[str, Any]) -> Progress:
    """Read from a Deployment how far it has come. One that is scaled to zero is ready, though it proves nothing."""
    status: Mapping[str, Any] = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "running"
    for condition in status.get("conditions") or ():
        if condition["type"] == "Progressing" and condition.get("reason") == _EXCEEDED:
            return "failed"
    asked_for = (deployment.get("spec") or {}).get("replicas", 1)
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    all_new = updated == asked_for and status.get("replicas", 0) == updated
    return "ready" if all_new and available == asked_for else "running"
