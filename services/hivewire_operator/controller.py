"""Sees to one object after the other, from whatever cause: a change, its own wish to be looked at again, or the resync.

What fails is tried again, less and less often. What the API server or NATS can't do now stops nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from hivewire_operator import metrics
from hivewire_operator.cluster import ApiError, ApiUnavailableError, Cluster, NotLeadingError
from hivewire_operator.keys import ObjectKey
from hivewire_operator.work_queue import WorkQueue

log = logging.getLogger("hivewire.operator")

Reconcile = Callable[[str, str], Awaitable[float | None]]

RESYNC_S: Final = 60.0
_WORKERS: Final = 4
_PASS_TIMEOUT_S: Final = 120.0


class Controller:
    """Runs reconciles.

    Args:
        reconciles: By kind, in the order in which a resync goes through them. Each takes namespace and name, and
            returns in how many seconds to look again.
        namespaces: None: all of the cluster.
    """

    def __init__(
        self, cluster: Cluster, reconciles: Mapping[str, Reconcile], *, namespaces: Sequence[str] | None
    ) -> None:
        self._cluster = cluster
        self._reconciles = reconciles
        self._namespaces = namespaces
        self._queue: WorkQueue[ObjectKey] = WorkQueue(on_depth=metrics.QUEUE_DEPTH.set)

    def add(self, key: ObjectKey) -> None:
        """Let an object be seen to soon."""
        self._queue.add(key)

    async def run(self) -> None:
        """See to what comes, until cancelled.

        Raises:
            NotLeadingError: another operator may lead.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._resync(), name="hivewire: resync")
                for number in range(_WORKERS):
                    tasks.create_task(self._work(), name=f"hivewire: reconcile {number}")
        finally:
            self._queue.close()

    async def look_again(self, namespace: str) -> None:
        """Let everything in a namespace be seen to that depends on its AgentSystem."""
        while True:
            try:
                for kind in self._reconciles:
                    if kind != "AgentSystem":
                        await self._add_all(kind, namespace)
                return
            except (ApiUnavailableError, ApiError) as error:
                log.warning("what is in %s is looked at later: %s", namespace, error)
                await asyncio.sleep(1)

    async def _resync(self) -> None:
        while True:
            try:
                for kind in self._reconciles:
                    for namespace in self._namespaces if self._namespaces is not None else [None]:
                        await self._add_all(kind, namespace)
                await asyncio.sleep(RESYNC_S)
            except (ApiUnavailableError, ApiError) as error:
                log.warning("the resync is tried again: %s", error)
                await asyncio.sleep(1)

    async def _add_all(self, kind: str, namespace: str | None) -> None:
        for each in await self._cluster.find(kind, namespace):
            metadata = each["metadata"]
            self._queue.add(ObjectKey(kind=kind, namespace=metadata["namespace"], name=metadata["name"]))

    async def _work(self) -> None:
        while True:
            async with self._queue.next() as key:
                await self._see_to(key)

    async def _see_to(self, key: ObjectKey) -> None:
        began = time.monotonic()
        result = "error"
        try:
            async with asyncio.timeout(_PASS_TIMEOUT_S):
                again_s = await self._reconciles[key.kind](key.namespace, key.name)
            result = "ok"
            self._queue.succeeded(key)
            if again_s is not None:
                self._queue.add_after(key, again_s)
        except NotLeadingError:
            raise
        except (ApiUnavailableError, ApiError, TimeoutError) as error:
            log.warning("%s: tried again in %g s: %s", key, self._queue.add_failed(key), error)
        except Exception:  # a mistake in one reconcile must not stop the others
            log.exception("%s: tried again in %g s", key, self._queue.add_failed(key))
        finally:
            metrics.RECONCILE.labels(key.kind, result).inc()
            metrics.RECONCILE_DURATION.labels(key.kind).observe(time.monotonic() - began)
