"""An operator process: it waits until it leads, works, and ends with its leadership, so that nothing of it goes on."""

from __future__ import annotations

import asyncio

from hivewire.health import Readiness
from hivewire_operator import metrics
from hivewire_operator.cluster import ApiError, ApiUnavailableError, Cluster
from hivewire_operator.operator import Operator
from hivewire_operator.settings import OperatorSettings

_CRDS_TIMEOUT_S = 60.0


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
        """Work until cancelled.

        Raises:
            OperatorEndedError: there is no Kubernetes, it lacks the definitions of the resources, or the work ended.
        """
        try:
            async with await Cluster.connect() as cluster:
                await self._check_definitions(cluster)
                self._problem = ""
                metrics.LEADER.set(1)
                await Operator(cluster, self._settings).run()
        except (ApiUnavailableError, ApiError) as error:
            raise OperatorEndedError(str(error)) from error
        except BaseExceptionGroup as group:
            raise OperatorEndedError(f"the work ended: {group.exceptions[0]!r}") from group

    async def _check_definitions(self, cluster: Cluster) -> None:
        """See that the API server knows the resources. Watching what it does not know would wait for ever."""
        async with asyncio.timeout(_CRDS_TIMEOUT_S):
            for kind in ("AgentSystem", "AgentDeployment", "AgentSubscription"):
                if not await cluster.serves(kind):
                    raise OperatorEndedError(f"the API server knows no {kind}: apply k8s/crds, or install the chart")
