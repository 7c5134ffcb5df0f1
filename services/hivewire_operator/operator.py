"""The work of the operator that leads."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from hivewire_operator.access import Access
from hivewire_operator.cluster import ApiError, ApiUnavailableError, Cluster
from hivewire_operator.controller import Controller
from hivewire_operator.deployments import Deployments
from hivewire_operator.events import Recorder
from hivewire_operator.first_system import keep_first_system
from hivewire_operator.keys import ObjectKey
from hivewire_operator.settings import OperatorSettings
from hivewire_operator.subscriptions import Subscriptions
from hivewire_operator.systems import SYSTEM_NAME, Systems
from hivewire_operator.watching import Watch

log = logging.getLogger("hivewire.operator")


class Operator:
    """Keeps everything, for as long as `run` is not cancelled. Nothing outlives it but what it wrote.

    Args:
        folder: For its own logins; for this process alone.
    """

    def __init__(self, cluster: Cluster, settings: OperatorSettings, folder: Path) -> None:
        self._cluster = cluster
        self._settings = settings
        self._changed: set[str] = set()
        self._change = asyncio.Event()
        recorder = Recorder(cluster, instance=settings.identity)
        access = Access(cluster, own_namespace=settings.own_namespace, folder=folder)
        self._ledgers = access.ledgers
        self._systems = Systems(cluster, settings, access, on_change=self._on_change, on_wake=self._on_wake)
        self._deployments = Deployments(
            cluster, settings, access, self._systems, recorder, on_types=self._look_at_system
        )
        subscriptions = Subscriptions(cluster, access.ledgers, self._systems, on_gone=self._look_at_system)
        self._controller = Controller(
            cluster,
            {
                "AgentSystem": lambda namespace, name: self._systems.reconcile(namespace),
                "AgentDeployment": self._deployments.reconcile,
                "AgentSubscription": subscriptions.reconcile,
            },
            namespaces=settings.namespaces,
        )

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            BaseExceptionGroup: something ended that never should; the process is to be started anew.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(Watch(self._settings.namespaces, self._on_seen).run(), name="hivewire: watch")
                tasks.create_task(self._controller.run(), name="hivewire: controller")
                tasks.create_task(self._pass_on(), name="hivewire: changed systems")
                tasks.create_task(self._settle(), name="hivewire: what was deleted")
                if self._settings.first_system is not None:
                    first = keep_first_system(self._cluster, self._settings.first_system)
                    tasks.create_task(first, name="hivewire: first system")
        finally:
            await self._systems.close()

    def _on_seen(self, key: ObjectKey) -> None:
        self._controller.add(key)

    def _on_change(self, namespace: str) -> None:
        self._changed.add(namespace)
        self._change.set()

    def _look_at_system(self, namespace: str) -> None:
        self._controller.add(ObjectKey(kind="AgentSystem", namespace=namespace, name=SYSTEM_NAME))

    async def _settle(self) -> None:
        """See to what was deleted while nobody led."""
        while True:
            try:
                for namespace in await self._ledgers.namespaces():
                    if self._settings.namespaces is None or namespace in self._settings.namespaces:
                        self._look_at_system(namespace)
                return
            except (ApiUnavailableError, ApiError) as error:
                log.warning("the ledgers are looked at later: %s", error)
                await asyncio.sleep(1)

    def _on_wake(self, namespace: str, agent_type: str) -> bool:
        woken = self._deployments.wake(namespace, agent_type)
        for name in woken:
            self._controller.add(ObjectKey(kind="AgentDeployment", namespace=namespace, name=name))
        return bool(woken)

    async def _pass_on(self) -> None:
        while True:
            await self._change.wait()
            self._change.clear()
            while self._changed:
                await self._controller.look_again(self._changed.pop())
