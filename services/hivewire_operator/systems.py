"""The AgentSystems: to each belongs a connection to its NATS, over which its streams, buckets and types are kept.

While NATS is away nothing is torn down: what is connected reconnects by itself, and what is not yet is tried again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from hivewire.exceptions import HivewireError
from hivewire.provisioning import Upkeep
from hivewire_operator.access import Access, Usable, finding
from hivewire_operator.cleanup import delete_departed
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.conditions import Finding
from hivewire_operator.loads import Load, load_of
from hivewire_operator.login_sources import Refused
from hivewire_operator.parsing import MalformedError, parsed
from hivewire_operator.resources.agent_system import AgentSystemSpec, Nats
from hivewire_operator.resources.agent_types import shapes_of
from hivewire_operator.settings import OperatorSettings
from hivewire_operator.status import write_status
from hivewire_operator.system_status import findings_of_connection, findings_of_departed, findings_of_login

log = logging.getLogger("hivewire.operator.systems")

SYSTEM_NAME: Final = "default"
_AGAIN_S: Final = 5.0


@dataclass(slots=True, kw_only=True)
class System:
    """What is known of the AgentSystem of one namespace.

    Attributes:
        source: Where logins come from; None: nobody logs in.
        stateless: The stateless agent types of all deployments, by which logins keep to their own.
        upkeep: None as long as there is no way to its NATS; `problem` tells why.
    """

    namespace: str
    spec: AgentSystemSpec
    source: Usable | None = None
    stateless: frozenset[str] = frozenset()
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
        access: Access,
        *,
        on_change: Callable[[str], None],
        on_wake: Callable[[str, str], bool],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._access = access
        self._on_change = on_change
        self._on_wake = on_wake
        self._systems: dict[str, System] = {}
        self._gone: dict[str, System] = {}

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
        for system in (*self._systems.values(), *self._gone.values()):
            await _close(system)

    async def reconcile(self, namespace: str) -> float | None:
        """Make it as it is asked for. Returns in how many seconds to look again; None: when something changes.

        Raises:
            ApiUnavailableError, ApiError, NotLeadingError: as `Cluster`.
            MalformedLedgerError: somebody has written nonsense into the ledger.
        """
        found = await self._cluster.get("AgentSystem", namespace, SYSTEM_NAME)
        if found is None:
            return await self._forget(namespace)
        try:
            spec = parsed(AgentSystemSpec, found)
        except MalformedError as error:
            malformed = Finding(type="Accepted", status="False", reason="Malformed", message=str(error))
            await self._report(found, [malformed, replace(malformed, type="Ready")])
            return None
        source = await self._access.source(namespace, spec)
        if isinstance(source, Refused):
            refused = finding(source)
            await self._report(found, [refused, replace(refused, type="Ready")])
            return _AGAIN_S
        stateless = await self._stateless_types(namespace, spec)
        returned = self._gone.pop(namespace, None)
        if returned is not None:
            await _close(returned)
        before = self._systems.get(namespace)
        was = None if before is None else (before.spec, before.source, before.stateless, before.upkeep is None)
        system, own_due = await self._connected(namespace, spec, source, before)
        system.stateless = stateless
        self._systems[namespace] = system
        problem = await self._kept(system)
        if was != (spec, source, stateless, system.upkeep is None):
            self._on_change(namespace)
        logins_due = await self._access.of_system(found, spec, source, stateless=stateless)
        undeleted = await delete_departed(
            self._access.ledgers, namespace, lambda: self._access.existing(namespace), system.upkeep
        )
        departed = await self._access.settle(namespace)
        trouble = "" if system.upkeep is None else system.upkeep.login_trouble
        types = await self._types_of_gateway(system)
        left = findings_of_departed(expiring=departed.message(), undeleted=undeleted)
        findings = [*findings_of_connection(problem), *types, *findings_of_login(source, trouble), *left]
        await self._report(found, findings, await self._numbers(system))
        if problem or undeleted or departed.failed:
            return _AGAIN_S
        now = time.time()
        due = [each - now for each in (own_due, logins_due) if each is not None]
        return max(min([float(spec.resync_seconds), *due]), 0.2)

    async def _connected(
        self, namespace: str, spec: AgentSystemSpec, source: Usable | None, before: System | None
    ) -> tuple[System, float | None]:
        """Return it with a connection, if there can be one, and when the operator's own login is due."""
        path, due = (None, None) if source is None else self._access.own(namespace, source)
        if before is not None and before.upkeep is not None:
            is_usable = before.spec.nats == spec.nats and before.spec.streams == spec.streams
            if is_usable and before.upkeep.failure is None:
                before.spec, before.source, before.problem = spec, source, ""
                return before, due
            await _close(before)
        upkeep = Upkeep(
            spec.nats.url,
            namespace=namespace,
            credentials=None if path is None else str(path),
            replicas=spec.streams.replicas,
            duplicate_window_s=spec.streams.deduplication_seconds,
            events_max_bytes=spec.streams.max_bytes,
            event_retention_s=spec.streams.retention_seconds,
            instance=self._settings.identity,
            on_wake=lambda agent_type: self._on_wake(namespace, agent_type),
        )
        system = System(namespace=namespace, spec=spec, source=source)
        try:
            await upkeep.open()
        except HivewireError as error:
            system.problem = str(error)
        else:
            log.info("connected to the NATS of %s at %s", namespace, spec.nats.url)
            system.upkeep = upkeep
        return system, due

    async def _stateless_types(self, namespace: str, spec: AgentSystemSpec) -> frozenset[str]:
        found = await self._cluster.find("AgentDeployment", namespace)
        types = [each for deployment in found for each in deployment["spec"].get("agentTypes", ())]
        of_gateway = [each.name for each in spec.gateway.agent_types if each.stateless]
        return frozenset([*of_gateway, *(each["name"] for each in types if each.get("stateless"))])

    async def _kept(self, system: System) -> str:
        """Repair what drifted. Returns what is wrong; empty: nothing."""
        if system.upkeep is None:
            return system.problem
        try:
            await system.upkeep.ensure()
        except HivewireError as error:
            return str(error)
        return ""

    async def _types_of_gateway(self, system: System) -> list[Finding]:
        """Register the agent types of workers over HTTP. Returns what stands against it."""
        if system.upkeep is None:
            return []
        try:
            for name, shape in shapes_of(system.spec.gateway.agent_types).items():
                await system.upkeep.register_type(name, shape)
        except ValueError as error:
            other = Finding(type="Provisioned", status="False", reason="OtherShape", message=str(error))
            return [other, replace(other, type="Ready")]
        except HivewireError as error:
            return [Finding(type="Provisioned", status="Unknown", reason="NatsUnavailable", message=str(error))]
        registered = "The agent types of the gateway are registered."
        return [Finding(type="Provisioned", status="True", reason="Provisioned", message=registered)]

    async def _numbers(self, system: System) -> dict[str, Any]:
        if system.upkeep is None:
            return {}
        try:
            seen = await system.upkeep.observe()
        except HivewireError:
            return {}
        return {"agentTypes": len(seen.types), "sessions": len(seen.sessions)}

    async def _forget(self, namespace: str) -> float | None:
        """Do what is left to do for one that is gone. The pods of its deployments go on."""
        system = self._systems.pop(namespace, None)
        if system is not None:
            self._on_change(namespace)
        system = system or self._gone.pop(namespace, None) or await self._connected_for_deletion(namespace)
        undeleted = await delete_departed(
            self._access.ledgers,
            namespace,
            lambda: self._access.existing(namespace),
            None if system is None else system.upkeep,
        )
        departed = await self._access.settle(namespace)
        if undeleted or departed.failed:
            log.warning("%s: %s", namespace, " ".join([undeleted, *departed.failed]))
            if system is not None:
                self._gone[namespace] = system
            return _AGAIN_S
        if system is not None:
            await _close(system)
        return None

    async def _connected_for_deletion(self, namespace: str) -> System | None:
        """Return a connection to where the data are of what was deleted while no operator led; None: no need, or no
        way."""
        ledger = await self._access.ledgers.load(namespace)
        gone = [each for each in ledger.entries.values() if each.kind == "AgentSystem" and each.deletes]
        if not gone:
            return None
        source = await self._access.source_of(gone[-1])
        if isinstance(source, Refused):
            return None
        spec = AgentSystemSpec(nats=Nats(url=gone[-1].url))
        return (await self._connected(namespace, spec, source, None))[0]

    async def _report(self, found: Object, findings: list[Finding], numbers: dict[str, Any] | None = None) -> None:
        fields = {"namespace": found["metadata"]["namespace"], **(numbers or {})}
        await write_status(self._cluster, "AgentSystem", found, findings, fields, now=datetime.now(UTC))


async def _close(system: System) -> None:
    if system.upkeep is not None:
        await system.upkeep.close()
        system.upkeep = None
