"""Carries out what `rollout` decides: the Deployment gets the template that it is to have, a good one is remembered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hivewire_operator import metrics
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.events import Recorder
from hivewire_operator.names import DEPLOYMENT_LABEL, TEMPLATE_ANNOTATION
from hivewire_operator.rollout import Progress, Rollout, decide, progress_of
from hivewire_operator.workloads import Manifest, Workload, deployment, good_revision, pod_template, template_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledOut:
    """How far the pods have come.

    Attributes:
        deployment: None: there is none yet.
        rejected: The template that was taken back; empty: none.
    """

    deployment: Object | None
    progress: Progress
    rejected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    manifest: Manifest
    generation: int
    at: float


class Rollouts:
    """Rolls out templates, and takes back those whose pods don't become ready."""

    def __init__(self, cluster: Cluster, recorder: Recorder) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._applied: dict[tuple[str, str], _Applied] = {}

    def forget(self, namespace: str, name: str) -> None:
        """Forget a deployment that is gone."""
        self._applied.pop((namespace, name), None)

    async def step(self, workload: Workload, found: Object, *, may_apply: bool, resync_s: float) -> RolledOut:
        """Take the next step.

        Args:
            found: The AgentDeployment.
            may_apply: Whether the template that is asked for may be rolled out.
            resync_s: How often the Deployment is brought back to what it was made, though nothing seems to be new.

        Raises:
            ApiUnavailableError, ApiError, NotLeadingError: as `Cluster`.
        """
        namespace, name = workload.namespace, workload.name
        status: Mapping[str, Any] = found.get("status") or {}
        child = await self._cluster.get("Deployment", namespace, name)
        revisions = await self._cluster.find("ControllerRevision", namespace, labels=f"{DEPLOYMENT_LABEL}={name}")
        newest = max(revisions, key=lambda each: int(each["revision"]), default=None)
        good = None if newest is None else newest["data"]["template"]
        template = pod_template(workload)
        rollout = Rollout(
            wanted=template_hash(template),
            current=None if child is None else _template_of(child),
            progress="running" if child is None else _progress(child, workload, status),
            good=None if good is None else template_hash(good),
            rejected=status.get("rejectedTemplate", ""),
            may_roll_back=workload.spec.rollout.rollback,
        )
        decision = decide(rollout)
        if decision.step == "apply wanted" and may_apply:
            child = await self._apply(workload, template)
        elif decision.step == "apply good" and good is not None:
            child = await self._apply(workload, good)
            if decision.rejected != rollout.rejected:
                await self._tell_rolled_back(workload, found)
        else:
            if decision.step == "remember good":
                await self._remember(workload, template, revisions)
            if child is not None and may_apply:
                current = good if good is not None and rollout.current == rollout.good else template
                child = await self._repaired(workload, child, current, resync_s)
        return RolledOut(deployment=child, progress=rollout.progress, rejected=decision.rejected)

    async def _apply(self, workload: Workload, template: Manifest) -> Object:
        manifest = deployment(workload, template)
        child = await self._cluster.apply("Deployment", manifest)
        self._applied[workload.namespace, workload.name] = _Applied(
            manifest=manifest, generation=child["metadata"]["generation"], at=time.monotonic()
        )
        return child

    async def _repaired(self, workload: Workload, child: Object, template: Manifest, resync_s: float) -> Object:
        """Apply the template that it has again where somebody changed something, or other parts of the spec did."""
        before = self._applied.get((workload.namespace, workload.name))
        if (
            before is not None
            and before.manifest == deployment(workload, template)
            and before.generation == child["metadata"]["generation"]
            and time.monotonic() - before.at < resync_s
        ):
            return child
        return await self._apply(workload, template)

    async def _remember(self, workload: Workload, template: Manifest, revisions: list[Object]) -> None:
        number = 1 + max((int(each["revision"]) for each in revisions), default=0)
        revision = good_revision(workload, template) | {"revision": number}
        await self._cluster.apply("ControllerRevision", revision)
        for each in revisions:
            if each["metadata"]["name"] != revision["metadata"]["name"]:
                await self._cluster.delete("ControllerRevision", workload.namespace, each["metadata"]["name"])

    async def _tell_rolled_back(self, workload: Workload, found: Object) -> None:
        metrics.ROLLBACKS.labels(workload.namespace, workload.name).inc()
        seconds = workload.spec.rollout.progress_deadline_seconds
        await self._recorder.warn(
            "AgentDeployment",
            found,
            "RolledBack",
            f"The new pods were not ready within {seconds} s; those of before are back.",
        )


def _progress(child: Object, workload: Workload, status: Mapping[str, Any]) -> Progress:
    scaled_at = status.get("lastScaleTime")
    return progress_of(
        child,
        now=datetime.now(UTC),
        deadline_s=workload.spec.rollout.progress_deadline_seconds,
        scaled_at=None if scaled_at is None else datetime.fromisoformat(scaled_at),
    )


def _template_of(child: Object) -> str:
    annotations = child["spec"]["template"]["metadata"].get("annotations") or {}
    return str(annotations.get(TEMPLATE_ANNOTATION, "unknown"))
