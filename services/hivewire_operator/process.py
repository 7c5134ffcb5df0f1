"""An operator process: it waits until it leads, works, and ends with its leadership, so that nothing of it goes on."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from hivewire.health import Readiness
from hivewire_operator import metrics
from hivewire_operator.cluster import ApiError, ApiUnavailableError, Cluster
from hivewire_operator.election import CALL_TIMEOUT_S, Leadership, LeadershipLostError
from hivewire_operator.operator import Operator
from hivewire_operator.settings import OperatorSettings

_DEFINITIONS_TIMEOUT_S = 60.0
_AGAIN_S = 1.0


class OperatorEndedError(Exception):
    """The process is to be started anew; the message says why."""


class OperatorProcess:
    """One of the replicas of the operator."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._problem = "it has not reached the Kubernetes API yet"

    def readiness(self) -> Readiness:
        """Tell whether it leads, or waits to. May be called from any thread."""
        return Readiness(not self._problem, self._problem)

    async def run(self) -> None:
        """Wait to lead, and work until cancelled.

        Raises:
            OperatorEndedError: there is no Kubernetes, it lacks the definitions of the resources, the leadership was
                lost, or the work ended.
        """
        metrics.LEADER.set(0)
        settings = self._settings
        try:
            async with await Cluster.connect(timeout_s=CALL_TIMEOUT_S) as leases:
                leadership = Leadership(
                    leases, namespace=settings.own_namespace, name=settings.lease, identity=settings.identity
                )
                async with await Cluster.connect(may_write=leadership.leads) as cluster:
                    await self._check_definitions(cluster)
                    self._problem = ""
                    await leadership.run(lambda: self._lead(cluster))
        except (ApiUnavailableError, ApiError, LeadershipLostError) as error:
            raise OperatorEndedError(str(error)) from error
        except BaseExceptionGroup as group:
            raise OperatorEndedError(f"the work ended: {_first_of(group)!r}") from group
        finally:
            metrics.LEADER.set(0)

    async def _lead(self, cluster: Cluster) -> None:
        metrics.LEADER.set(1)
        with tempfile.TemporaryDirectory(prefix="hivewire-") as folder:
            await Operator(cluster, self._settings, Path(folder)).run()

    async def _check_definitions(self, cluster: Cluster) -> None:
        """See that the API server knows the resources: what it does not know would be watched for ever."""
        deadline = time.monotonic() + _DEFINITIONS_TIMEOUT_S
        kinds = ["AgentSystem", "AgentDeployment", "AgentSubscription"]
        while True:
            try:
                missing = [kind for kind in kinds if not await cluster.serves(kind)]
            except ApiUnavailableError as error:
                if time.monotonic() > deadline:
                    raise
                self._problem = str(error)
            else:
                if not missing:
                    return
                self._problem = f"the API server knows no {', '.join(missing)}: apply k8s/crds, or install the chart"
                if time.monotonic() > deadline:
                    raise OperatorEndedError(self._problem)
            await asyncio.sleep(_AGAIN_S)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
