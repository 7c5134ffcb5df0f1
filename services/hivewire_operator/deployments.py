"""The AgentDeployments: from each a Deployment follows, with all that belongs to it, and its types in the registry.

One pass over one object, from whatever cause, brings everything to what is wanted, and may be repeated at any time. How
many replicas there are to be is not decided here: the Deployment gets the number that the AgentDeployment has.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hivewire.exceptions import HivewireError
from hivewire.provisioning import TypeShape
from hivewire_operator import metrics
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.conditions import Finding
from hivewire_operator.deployment_status import Picture, fields_of, findings_of
from hivewire_operator.events import Recorder
from hivewire_operator.names import DEPLOYMENT_LABEL, TEMPLATE_ANNOTATION
from hivewire_operator.parsing import MalformedError, parsed
from hivewire_operator.resources.agent_deployment import AgentDeploymentSpec
from hivewire_operator.rollout import Rollout, decide, is_replacing, progress_of
from hivewire_operator.settings import OperatorSettings
from hivewire_operator.status import write_status
from hivewire_operator.systems import System, Systems
from hivewire_operator.workloads import (
    Workload,
    deployment,
    disruption_budget,
    good_revision,
    pod_monitor,
    pod_template,
    service_account,
    template_hash,
)

log = logging.getLogger("hivewire.operator.deployments")

_KIND: Final = "AgentDeployment"
_AGAIN_S: Final = 5.0
_WAIT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An AgentDeployment as it was last seen to: what scaling needs of it."""

    object: Object
    spec: AgentDeploymentSpec
    is_replacing: bool


class Deployments:
    """Keeps the AgentDeployments."""

    def __init__(self, cluster: Cluster, settings: OperatorSettings, systems: Systems, recorder: Recorder) -> None:
        self._cluster = cluster
        self._settings = settings
        self._systems = systems
        self._recorder = recorder
        self._served: dict[tuple[str, str], Served] = {}
        self._has_monitors: bool | None = None

    def served(self, namespace: str, name: str) -> Served | None:
        """Return a deployment as it was last seen to; None: it is not served."""
        return self._served.get((namespace, name))

    def serving(self, namespace: str, agent_type: str) -> list[str]:
        """Return the names of the deployments that serve an agent type."""
        return [
            name
            for (where, name), each in self._served.items()
            if where == namespace and any(served.name == agent_type for served in each.spec.agent_types)
        ]

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Make it as it is asked for. Returns in how many seconds to look again; None: when something changes.

        Raises:
            ApiUnavailableError, ApiError, NotLeadingError: as `Cluster`.
        """
        found = await self._cluster.get(_KIND, namespace, name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            self._forget(namespace, name)
            return None
        try:
            spec = parsed(AgentDeploymentSpec, found)
        except MalformedError as error:
            await self._refuse(found, "Accepted", "Malformed", str(error))
            return None
        system = self._systems.get(namespace)
        if system is None:
            await self._refuse(found, "Ready", "NoAgentSystem", f"There is no AgentSystem in {namespace}: create one.")
            return None
        refused = await self._provisioned(system, spec)
        workload = self._workload(found, spec, system)
        await self._apply_parts(workload)
        picture = await self._roll_out(workload, found, refused)
        await self._report(found, picture)
        self._served[namespace, name] = Served(object=found, spec=spec, is_replacing=picture.is_replacing)
        if refused is not None:
            return _AGAIN_S
        return _WAIT_S if picture.progress == "running" else float(system.spec.resync_seconds)

    def _workload(self, found: Object, spec: AgentDeploymentSpec, system: System) -> Workload:
        metadata = found["metadata"]
        return Workload(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            spec=spec,
            system=system.spec,
            image=self._settings.image,
        )

    async def _provisioned(self, system: System, spec: AgentDeploymentSpec) -> Finding | None:
        """Register the agent types. Returns what stands against it; None: nothing."""
        if system.upkeep is None:
            return Finding(type="Provisioned", status="Unknown", reason="NatsUnavailable", message=system.problem)
        try:
            for each in spec.agent_types:
                shape = TypeShape(kind="stateless") if each.stateless else TypeShape(shards=each.shards)
                await system.upkeep.register_type(each.name, shape)
        except ValueError as error:
            return Finding(type="Provisioned", status="False", reason="OtherShape", message=str(error))
        except HivewireError as error:
            return Finding(type="Provisioned", status="Unknown", reason="NatsUnavailable", message=str(error))
        return None

    async def _apply_parts(self, workload: Workload) -> None:
        await self._cluster.apply("ServiceAccount", service_account(workload))
        budget = disruption_budget(workload)
        if budget is not None:
            await self._cluster.apply("PodDisruptionBudget", budget)
        else:
            await self._cluster.delete("PodDisruptionBudget", workload.namespace, workload.name)
        if self._has_monitors is None:
            self._has_monitors = await self._cluster.serves("PodMonitor")
        if self._has_monitors:
            await self._cluster.apply("PodMonitor", pod_monitor(workload))

    async def _roll_out(self, workload: Workload, found: Object, refused: Finding | None) -> Picture:
        namespace, name = workload.namespace, workload.name
        status: Mapping[str, Any] = found.get("status") or {}
        child = await self._cluster.get("Deployment", namespace, name)
        template = pod_template(workload)
        wanted = template_hash(template)
        revisions = await self._cluster.find("ControllerRevision", namespace, labels=f"{DEPLOYMENT_LABEL}={name}")
        good = {template_hash(each["data"]["template"]): each for each in revisions}
        newest = max(revisions, key=lambda each: int(each["revision"]), default=None)
        rollout = Rollout(
            wanted=wanted,
            current=None if child is None else _template_of(child),
            progress="running" if child is None else self._progress(child, workload, status),
            good=None if newest is None else template_hash(newest["data"]["template"]),
            rejected=status.get("rejectedTemplate", ""),
            may_roll_back=workload.spec.rollout.rollback,
        )
        decision = decide(rollout)
        is_refused = refused is not None and refused.status == "False"
        if decision.step == "apply wanted" and not is_refused:
            child = await self._cluster.apply("Deployment", deployment(workload, template))
        elif decision.step == "apply good" and newest is not None:
            child = await self._cluster.apply("Deployment", deployment(workload, newest["data"]["template"]))
            if decision.rejected != rollout.rejected:
                await self._say_rolled_back(found, workload)
        elif decision.step == "remember good" and wanted not in good:
            number = 1 + (0 if newest is None else int(newest["revision"]))
            await self._cluster.create("ControllerRevision", good_revision(workload, template) | {"revision": number})
            for each in revisions:
                await self._cluster.delete("ControllerRevision", namespace, each["metadata"]["name"])
        if child is not None:
            child = await self._scaled(child, found)
        return Picture(
            spec=workload.spec,
            deployment=child,
            progress=rollout.progress,
            is_replacing=child is not None and (is_replacing(child) or decision.step.startswith("apply")),
            rejected=decision.rejected,
            refused=refused,
            status=status,
        )

    def _progress(self, child: Object, workload: Workload, status: Mapping[str, Any]) -> Any:
        scaled_at = status.get("lastScaleTime")
        return progress_of(
            child,
            now=datetime.now(UTC),
            deadline_s=workload.spec.rollout.progress_deadline_seconds,
            scaled_at=None if scaled_at is None else datetime.fromisoformat(scaled_at),
        )

    async def _scaled(self, child: Object, found: Object) -> Object:
        wanted, name = found["spec"]["replicas"], child["metadata"]["name"]
        if child["spec"].get("replicas") == wanted:
            return child
        await self._cluster.merge(
            "Deployment", child["metadata"]["namespace"], name, {"spec": {"replicas": wanted}}, part="scale"
        )
        return {**child, "spec": {**child["spec"], "replicas": wanted}}

    async def _say_rolled_back(self, found: Object, workload: Workload) -> None:
        metrics.ROLLBACKS.labels(workload.namespace, workload.name).inc()
        seconds = workload.spec.rollout.progress_deadline_seconds
        await self._recorder.warn(
            _KIND, found, "RolledBack", f"The new pods were not ready within {seconds} s; those of before are back."
        )

    async def _refuse(self, found: Object, condition: str, reason: str, message: str) -> None:
        findings = [Finding(type=name, status="False", reason=reason, message=message) for name in {condition, "Ready"}]
        await write_status(self._cluster, _KIND, found, findings, {"phase": "Failed"}, now=datetime.now(UTC))

    async def _report(self, found: Object, picture: Picture) -> None:
        labels = (found["metadata"]["namespace"], found["metadata"]["name"])
        fields = fields_of(picture, found)
        scaling = picture.spec.scaling
        for kind, number in (
            ("desired", found["spec"]["replicas"]),
            ("current", fields["replicas"]),
            ("ready", fields["readyReplicas"]),
            ("min", scaling.min_replicas),
            ("max", scaling.max_replicas),
        ):
            metrics.DEPLOYMENT_REPLICAS.labels(*labels, kind).set(number)
        await write_status(self._cluster, _KIND, found, findings_of(picture), fields, now=datetime.now(UTC))

    def _forget(self, namespace: str, name: str) -> None:
        self._served.pop((namespace, name), None)
        for kind in ("desired", "current", "ready", "min", "max"):
            try:
                metrics.DEPLOYMENT_REPLICAS.remove(namespace, name, kind)
            except KeyError:
                pass  # it was never told


def _template_of(child: Object) -> str:
    annotations = child["spec"]["template"]["metadata"].get("annotations") or {}
    return str(annotations.get(TEMPLATE_ANNOTATION, "unknown"))
