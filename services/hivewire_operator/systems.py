"""The AgentSystems: to each belongs a connection to its NATS, over which its streams, buckets and types are kept.

While NATS is away nothing is torn down: what is connected reconnects by itself, and what is not yet is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from hivewire.exceptions import HivewireError
from hivewire.provisioning import Upkeep
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.conditions import Finding
from hivewire_operator.loads import Load, load_of
from hivewire_operator.parsing import MalformedError, parsed
from hivewire_operator.resources.agent_system import AgentSystemSpec
from hivewire_operator.settings import OperatorSettings
from hivewire_operator.status import write_status

log = logging.getLogger("hivewire.operator.systems")

SYSTEM_NAME: Final = "default"
_AGAIN_S: Final = 5.0


@dataclass(slots=True, kw_only=True)
class System:
    """What is known of the AgentSystem of one namespace. `upkeep` is None as long as there is no way to its NATS, and
    `problem` tells why."""

    namespace: str
    spec: AgentSystemSpec
    upkeep: Upkeep | None = None
    problem: str = ""


class Systems:
    """Keeps the AgentSystems.

    Args:
        on_change: Called with the namespace when its deployments and subscriptions are to be looked at again.
        on_wake: Called with namespace and agent type when a direct message waits for a type that nobody serves; tells
            whether somebody will.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: OperatorSettings,
        *,
        on_change: Callable[[str], None],
        on_wake: Callable[[str, str], bool],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._on_change = on_change
        self._on_wake = on_wake
        self._systems: dict[str, System] = {}

    def get(self, namespace: str) -> System | None:
        """Return what is known of a namespace's AgentSystem; None: there is none."""
        return self._systems.get(namespace)

    async def load(self, system: System, deployment: str, types: Collection[str]) -> tuple[Load | None, str]:
        """Return the load of a deployment; or None, and why it is not known."""
        if system.upkeep is None:
            return None, system.problem or "NATS is not connected yet"
        try:
            load = load_of(await system.upkeep.observe(), deployment, types)
        except HivewireError as error:
            return None, str(error)
        return load, "" if load is not None else "Not all of the agent types are registered yet"

    async def close(self) -> None:
        """Disconnect."""
        for system in self._systems.values():
            await _close(system)

    async def reconcile(self, namespace: str) -> float | None:
        """Make it as it is asked for. Returns in how many seconds to look again; None: when something changes.

        Raises:
            ApiUnavailableError, ApiError, NotLeadingError: as `Cluster`.
        """
        found = await self._cluster.get("AgentSystem", namespace, SYSTEM_NAME)
        if found is None:
            await self._forget(namespace)
            return None
        try:
            spec = parsed(AgentSystemSpec, found)
        except MalformedError as error:
            await self._report(
                found, [Finding(type="Accepted", status="False", reason="Malformed", message=str(error))]
            )
            return None
        before = self._systems.get(namespace)
        was = None if before is None else (before.spec, before.upkeep is None)
        system = self._systems[namespace] = await self._connected(namespace, spec, before)
        problem = await self._kept(system)
        if was != (spec, system.upkeep is None):
            self._on_change(namespace)
        await self._report(found, _findings(problem))
        return _AGAIN_S if problem else spec.resync_seconds

    async def _connected(self, namespace: str, spec: AgentSystemSpec, before: System | None) -> System:
        if before is not None and before.upkeep is not None:
            is_usable = before.spec.nats == spec.nats and before.spec.streams == spec.streams
            if is_usable and before.upkeep.failure is None:
                before.spec, before.problem = spec, ""
                return before
            await _close(before)
        upkeep = Upkeep(
            spec.nats.url,
            namespace=namespace,
            replicas=spec.streams.replicas,
            duplicate_window_s=spec.streams.deduplication_seconds,
            events_max_bytes=spec.streams.max_bytes,
            event_retention_s=spec.streams.retention_seconds,
            instance=self._settings.identity,
            on_wake=lambda agent_type: self._on_wake(namespace, agent_type),
        )
        try:
            await upkeep.open()
        except HivewireError as error:
            return System(namespace=namespace, spec=spec, problem=str(error))
        log.info("connected to the NATS of %s at %s", namespace, spec.nats.url)
        return System(namespace=namespace, spec=spec, upkeep=upkeep)

    async def _kept(self, system: System) -> str:
        """Repair what drifted. Returns what is wrong; empty: nothing."""
        if system.upkeep is None:
            return system.problem
        try:
            await system.upkeep.ensure()
        except HivewireError as error:
            return str(error)
        return ""

    async def _forget(self, namespace: str) -> None:
        system = self._systems.pop(namespace, None)
        if system is not None:
            await _close(system)
            self._on_change(namespace)

    async def _report(self, found: Object, findings: list[Finding]) -> None:
        await write_status(
            self._cluster,
            "AgentSystem",
            found,
            findings,
            {"namespace": found["metadata"]["namespace"]},
            now=datetime.now(UTC),
        )


def _findings(problem: str) -> list[Finding]:
    accepted = Finding(type="Accepted", status="True", reason="Accepted", message="The spec makes sense.")
    if problem:
        away = Finding(type="Connected", status="False", reason="NatsUnavailable", message=problem)
        return [accepted, away, replace(away, type="Ready")]
    kept = Finding(type="Connected", status="True", reason="Connected", message="Streams and buckets are as planned.")
    return [accepted, kept, Finding(type="Ready", status="True", reason="Ready", message="Agents can be deployed.")]


async def _close(system: System) -> None:
    if system.upkeep is not None:
        await system.upkeep.close()
        system.upkeep = None
