"""The AgentDeployments: from each a Deployment follows, with all that belongs to it, and its types in the registry.

One pass over one object, from whatever cause, brings everything to what is wanted, and may be repeated at any time. The
number of replicas is that of the AgentDeployment: the autoscaler writes it there as anybody else may, and from there it
goes to the Deployment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hivewire.exceptions import HivewireError
from hivewire_operator import metrics
from hivewire_operator.access import Access
from hivewire_operator.autoscaling import Autoscaler, Scaling
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.conditions import Finding
from hivewire_operator.deployment_status import Picture, fields_of, findings_of
from hivewire_operator.events import Recorder
from hivewire_operator.names import credentials_secret
from hivewire_operator.parsing import MalformedError, parsed
from hivewire_operator.resources.agent_deployment import AgentDeploymentSpec
from hivewire_operator.resources.agent_types import shapes_of
from hivewire_operator.rollout import is_replacing
from hivewire_operator.rollouts import Rollouts
from hivewire_operator.settings import OperatorSettings
from hivewire_operator.status import write_status
from hivewire_operator.systems import System, Systems
from hivewire_operator.workloads import Manifest, Workload, disruption_budget, pod_monitor, service_account

_KIND: Final = "AgentDeployment"
_ROLLOUT_POLL_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    manifest: Manifest | None
    at: float


class Deployments:
    """Keeps the AgentDeployments.

    Args:
        on_types: Called with the namespace when a deployment came or went, or its agent types changed, in a way that
            the logins of others depend on.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: OperatorSettings,
        access: Access,
        systems: Systems,
        recorder: Recorder,
        *,
        on_types: Callable[[str], None],
    ) -> None:
        self._access = access
        self._on_types = on_types
        self._cluster = cluster
        self._settings = settings
        self._systems = systems
        self._recorder = recorder
        self._rollouts = Rollouts(cluster, recorder)
        self._autoscaler = Autoscaler(systems)
        self._specs: dict[tuple[str, str], AgentDeploymentSpec] = {}
        self._applied: dict[tuple[str, str, str], _Applied] = {}
        self._has_monitors: bool | None = None

    def wake(self, namespace: str, agent_type: str) -> list[str]:
        """Take note that a direct message waits for an agent type. Returns the deployments that are to be seen to, as
        they serve it and are scaled here."""
        woken = [
            name
            for (where, name), spec in self._specs.items()
            if where == namespace
            and spec.scaling.mode == "internal"
            and not spec.scaling.paused
            and any(served.name == agent_type for served in spec.agent_types)
        ]
        for name in woken:
            self._autoscaler.wake(namespace, name)
        return woken

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Make it as it is asked for. Returns in how many seconds to look again; None: when something changes.

        Raises:
            ApiUnavailableError, ApiError, NotLeadingError: as `Cluster`.
        """
        found = await self._cluster.get(_KIND, namespace, name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            self._forget(namespace, name)
            self._on_types(namespace)
            return None
        try:
            spec = parsed(AgentDeploymentSpec, found)
        except MalformedError as error:
            await self._refuse(found, "Accepted", "Malformed", str(error))
            return None
        system = self._systems.get(namespace)
        if system is None:
            why = f"{namespace} has no AgentSystem that works: create one, or see what its conditions say."
            await self._refuse(found, "Ready", "NoAgentSystem", why)
            return None
        self._specs[namespace, name] = spec
        if not {each.name for each in spec.agent_types if each.stateless} <= system.stateless:
            self._on_types(namespace)
        login_due = await self._access.of_deployment(
            found, spec, system.spec, system.source, stateless=system.stateless
        )
        refused = await self._provisioned(system, spec)
        workload = self._workload(found, spec, system)
        await self._apply_parts(workload, system)
        rollout = await self._rollouts.step(
            workload, found, may_apply=refused is None or refused.status != "False", resync_s=system.spec.resync_seconds
        )
        scaling = await self._scale(system, found, spec, rollout.deployment)
        now = datetime.now(UTC)
        picture = Picture(
            spec=spec,
            deployment=rollout.deployment,
            progress=rollout.progress,
            rejected=rollout.rejected,
            refused=refused,
            scaling=scaling,
        )
        fields = fields_of(picture, found, now=now)
        self._measure(namespace, name, found, spec, fields)
        await write_status(self._cluster, _KIND, found, findings_of(picture), fields, now=now)
        again_s = float(spec.scaling.poll_seconds)
        if rollout.progress == "running":
            again_s = min(again_s, _ROLLOUT_POLL_S)
        return again_s if login_due is None else max(min(again_s, login_due - time.time()), 0.2)

    def _workload(self, found: Object, spec: AgentDeploymentSpec, system: System) -> Workload:
        metadata = found["metadata"]
        return Workload(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            spec=spec,
            system=system.spec,
            image=self._settings.image,
            login=None if system.source is None else credentials_secret(metadata["name"]),
            monitor_labels=self._settings.monitor_labels,
        )

    async def _provisioned(self, system: System, spec: AgentDeploymentSpec) -> Finding | None:
        """Register the agent types. Returns what stands against it; None: nothing."""
        if system.upkeep is None:
            return Finding(type="Provisioned", status="Unknown", reason="NatsUnavailable", message=system.problem)
        try:
            for name, shape in shapes_of(spec.agent_types).items():
                await system.upkeep.register_type(name, shape)
        except ValueError as error:
            return Finding(type="Provisioned", status="False", reason="OtherShape", message=str(error))
        except HivewireError as error:
            return Finding(type="Provisioned", status="Unknown", reason="NatsUnavailable", message=str(error))
        return None

    async def _apply_parts(self, workload: Workload, system: System) -> None:
        if self._has_monitors is None:
            self._has_monitors = await self._cluster.serves("PodMonitor")
        parts = {
            "ServiceAccount": service_account(workload),
            "PodDisruptionBudget": disruption_budget(workload),
            **({"PodMonitor": pod_monitor(workload)} if self._has_monitors else {}),
        }
        for kind, manifest in parts.items():
            key = (kind, workload.namespace, workload.name)
            before = self._applied.get(key)
            is_recent = before is not None and time.monotonic() - before.at < system.spec.resync_seconds
            if before is None or before.manifest != manifest or not is_recent:
                if manifest is None:
                    await self._cluster.delete(*key)
                else:
                    await self._cluster.apply(kind, manifest)
                self._applied[key] = _Applied(manifest=manifest, at=time.monotonic())

    async def _scale(
        self, system: System, found: Object, spec: AgentDeploymentSpec, deployment: Object | None
    ) -> Scaling:
        """Decide how many replicas there are to be, and bring the number to where it belongs."""
        metadata, replicas = found["metadata"], found["spec"]["replicas"]
        namespace, name = metadata["namespace"], metadata["name"]
        replacing = deployment is None or is_replacing(deployment)
        scaling = await self._autoscaler.look(system, name, spec, replicas=replicas, is_replacing=replacing)
        if scaling.change is not None:
            replicas = scaling.change.replicas
            await self._cluster.merge(_KIND, namespace, name, {"spec": {"replicas": replicas}}, part="scale")
            found["spec"]["replicas"] = replicas
            await self._tell_scaled(found, scaling)
        if deployment is not None and deployment["spec"].get("replicas") != replicas:
            await self._cluster.merge("Deployment", namespace, name, {"spec": {"replicas": replicas}}, part="scale")
        return scaling

    async def _tell_scaled(self, found: Object, scaling: Scaling) -> None:
        change, metadata = scaling.change, found["metadata"]
        assert change is not None
        metrics.SCALE_EVENTS.labels(metadata["namespace"], metadata["name"], change.direction, change.reason).inc()
        load = "not known" if scaling.load is None else scaling.load
        note = f"{change.replicas} pods from now on: {change.reason} (load {load})."
        await self._recorder.tell(_KIND, found, f"Scaled{change.direction.capitalize()}", note)

    async def _refuse(self, found: Object, condition: str, reason: str, message: str) -> None:
        findings = [Finding(type=name, status="False", reason=reason, message=message) for name in {condition, "Ready"}]
        await write_status(self._cluster, _KIND, found, findings, {"phase": "Failed"}, now=datetime.now(UTC))

    def _measure(
        self, namespace: str, name: str, found: Object, spec: AgentDeploymentSpec, fields: Mapping[str, Any]
    ) -> None:
        numbers = {
            "desired": found["spec"]["replicas"],
            "current": fields["replicas"],
            "ready": fields["readyReplicas"],
            "min": spec.scaling.min_replicas,
            "max": spec.scaling.max_replicas,
        }
        for kind, number in numbers.items():
            metrics.DEPLOYMENT_REPLICAS.labels(namespace, name, kind).set(number)

    def _forget(self, namespace: str, name: str) -> None:
        self._specs.pop((namespace, name), None)
        self._autoscaler.forget(namespace, name)
        self._rollouts.forget(namespace, name)
        for key in [key for key in self._applied if key[1:] == (namespace, name)]:
            del self._applied[key]
        for kind in ("desired", "current", "ready", "min", "max"):
            try:
                metrics.DEPLOYMENT_REPLICAS.remove(namespace, name, kind)
            except KeyError:
                pass  # it was never told
