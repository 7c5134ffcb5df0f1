"""How everybody in a namespace gets in at its NATS: logins for the pods, the gateway, and the operator itself."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hivewire.provisioning import (
    Permissions,
    Subjects,
    admin_permissions,
    gateway_permissions,
    worker_permissions,
)
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.conditions import Finding
from hivewire_operator.departed_logins import DepartedLogins, revoke_departed
from hivewire_operator.ledger import Entry, OwnerKind
from hivewire_operator.ledgers import Ledgers
from hivewire_operator.login_sources import LoginSource, Minting, Refused, Shared, login_secret, login_source
from hivewire_operator.logins import ADMIN_SECRET, GATEWAY_SECRET, Owner, ensure_login
from hivewire_operator.names import credentials_secret
from hivewire_operator.own_logins import OwnLogins
from hivewire_operator.resources.agent_deployment import AgentDeploymentSpec
from hivewire_operator.resources.agent_system import AgentSystemSpec
from hivewire_operator.resources.agent_types import shapes_of

Usable = Minting | Shared

_OBJECTS: Final[tuple[OwnerKind, ...]] = ("AgentSystem", "AgentDeployment", "AgentSubscription")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    wanted: tuple[Entry, LoginSource | None, Permissions]
    until: float


class Access:
    """Hands out logins, and sees to it that nobody keeps one who is gone.

    Args:
        folder: For the operator's own logins; for this process alone.
    """

    def __init__(self, cluster: Cluster, *, own_namespace: str, folder: Path) -> None:
        self._cluster = cluster
        self._own_namespace = own_namespace
        self._ledgers = Ledgers(cluster, own_namespace=own_namespace)
        self._own = OwnLogins(folder)
        self._checked: dict[tuple[str, str], _Checked] = {}

    async def source(self, namespace: str, spec: AgentSystemSpec) -> LoginSource | None:
        """Return where the logins of a namespace come from; None: nobody logs in.

        Raises:
            ApiUnavailableError, ApiError: as `Cluster.get`.
        """
        name = spec.nats.login
        if name is None:
            return None
        secret = await self._cluster.get("Secret", self._own_namespace, login_secret(name))
        return login_source(secret, name=name, namespace=namespace)

    def own(self, namespace: str, source: Usable) -> tuple[Path, float | None]:
        """As `OwnLogins.ensure`, now."""
        return self._own.ensure(namespace, source, now=time.time())

    def forget(self, namespace: str, name: str) -> None:
        """Look at everything again when an object of this name comes back."""
        self._checked.pop((namespace, name), None)

    async def of_system(
        self, found: Object, spec: AgentSystemSpec, source: Usable | None, *, stateless: Collection[str]
    ) -> float | None:
        """See to the logins of the gateway and, where it is asked for, the administrator. Returns when to look at them
        again, in seconds since 1970; None: no need to.

        Raises:
            as `ensure_login`.
        """
        metadata = found["metadata"]
        subjects, types = Subjects(metadata["namespace"]), shapes_of(spec.gateway.agent_types)
        entry = Entry(
            kind="AgentSystem",
            name=metadata["name"],
            uid=metadata["uid"],
            url=spec.nats.url,
            deletes=spec.deletion_policy == "Delete",
            agent_types=tuple(sorted(types)),
        )
        workers = spec.gateway.worker_deployments
        rights = gateway_permissions(subjects, types=types, worker_deployments=workers, stateless=stateless)
        wanted = {GATEWAY_SECRET: rights}
        if spec.admin_login:
            wanted[ADMIN_SECRET] = admin_permissions(subjects, stateless=stateless)
        dues = [
            await self._ensure(subjects.namespace, entry, secret, source, permissions, spec)
            for secret, permissions in wanted.items()
        ]
        return min((due for due in dues if due is not None), default=None)

    async def of_deployment(
        self,
        found: Object,
        spec: AgentDeploymentSpec,
        system: AgentSystemSpec,
        source: Usable | None,
        *,
        stateless: Iterable[str],
    ) -> float | None:
        """See to the login of a deployment's pods. Returns when to look at it again, in seconds since 1970.

        Raises:
            as `ensure_login`.
        """
        metadata = found["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        types = shapes_of(spec.agent_types)
        entry = Entry(
            kind="AgentDeployment",
            name=name,
            uid=metadata["uid"],
            url=system.nats.url,
            deletes=spec.deletion_policy == "Delete",
            agent_types=tuple(sorted(types)),
        )
        permissions = worker_permissions(Subjects(namespace), deployment=name, types=types, stateless=stateless)
        return await self._ensure(namespace, entry, credentials_secret(name), source, permissions, system)

    async def settle(self, namespace: str) -> DepartedLogins:
        """Revoke the logins of what is gone.

        Raises:
            as `revoke_departed`.
        """
        return await revoke_departed(
            self._cluster,
            self._ledgers,
            namespace,
            lambda: self.existing(namespace),
            own_namespace=self._own_namespace,
            now=time.time(),
        )

    async def existing(self, namespace: str) -> set[str]:
        """Return the uids of the objects for which something may have been made."""
        found = [each for kind in _OBJECTS for each in await self._cluster.find(kind, namespace)]
        return {each["metadata"]["uid"] for each in found}

    async def source_of(self, entry: Entry) -> LoginSource | None:
        """Return where the logins of an object came from; None: from nowhere.

        Raises:
            ApiUnavailableError, ApiError: as `Cluster.get`.
        """
        if not entry.issued:
            return None
        name = entry.issued[-1].login
        secret = await self._cluster.get("Secret", self._own_namespace, login_secret(name))
        return login_source(secret, name=name, namespace=None)

    @property
    def ledgers(self) -> Ledgers:
        """What is written down of objects, for when they are gone."""
        return self._ledgers

    async def _ensure(
        self,
        namespace: str,
        entry: Entry,
        secret: str,
        source: Usable | None,
        permissions: Permissions,
        system: AgentSystemSpec,
    ) -> float | None:
        """See to a login unless that was done a moment ago, and nothing is new."""
        now = time.time()
        key, wanted = (namespace, secret), (entry, source, permissions)
        before = self._checked.get(key)
        if before is not None and before.wanted == wanted and now < before.until:
            return before.until
        if source is None:
            await self._ledgers.change(namespace, lambda ledger: ledger.with_object(entry))
            due = None
        else:
            owner = Owner(namespace=namespace, entry=entry, secret=secret)
            due = await ensure_login(self._cluster, self._ledgers, owner, source, permissions, now=now)
        # What somebody does to the Secret is seen at the resync.
        until = now + system.resync_seconds if due is None else min(due, now + system.resync_seconds)
        self._checked[key] = _Checked(wanted=wanted, until=until)
        return until


def finding(source: LoginSource | None) -> Finding:
    """Return the condition that tells who logs in how."""
    if isinstance(source, Refused):
        return Finding(type="LoginReady", status="False", reason=source.reason, message=source.message)
    reason, message = _how(source)
    return Finding(type="LoginReady", status="True", reason=reason, message=message)


def _how(source: Usable | None) -> tuple[str, str]:
    if source is None:
        return "NoLogin", "NATS is used without a login, by everybody."
    if isinstance(source, Shared):
        return "Shared", f"All use one login ({login_secret(source.name)}), so each may do what any other may."
    if source.revoking is not None:
        return "Minted", "Each deployment has logins of its own, which are revoked with it."
    return "Minted", (
        "Each deployment has logins of its own. There are no keys to revoke them with it, so they expire within"
        f" {source.life_s} s."
    )
