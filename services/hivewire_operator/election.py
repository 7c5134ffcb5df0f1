"""Elects one of several processes by a Lease: whoever leads works, the others wait."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from hivewire_operator.candidacy import Candidacy, LeaseTimes
from hivewire_operator.cluster import ApiError, ApiUnavailableError, Cluster, Object

log = logging.getLogger("hivewire.operator.election")

CALL_TIMEOUT_S: Final = 2.0
END_TIMEOUT_S: Final = 10.0
_RELEASE_ATTEMPTS: Final = 3


class LeadershipLostError(Exception):
    """This process led, and does no longer, or may not."""


class Leadership:
    """One process' part in the election. A process leads once at most: who lost it is to start anew.

    Args:
        cluster: For the Lease alone; its requests must take less than the Lease holds.
        identity: What the process is called. A process that comes in its place is another one all the same.
    """

    def __init__(
        self, cluster: Cluster, *, namespace: str, name: str, identity: str, times: LeaseTimes | None = None
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._times = times or LeaseTimes()
        self._identity = f"{identity}_{secrets.token_hex(4)}"
        self._candidacy = Candidacy(self._identity, self._times)
        self._is_lost = False
        self._working: asyncio.Future[None] | None = None

    def leads(self) -> bool:
        """Tell whether this process leads at this very moment. Cheap, and from any thread."""
        return not self._is_lost and self._candidacy.leads(time.monotonic())

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait to lead, then work, until the work ends, this is cancelled, or the leadership is lost. The Lease is
        released once the work has ended, for which it has 10 s after it was cancelled; otherwise it ends by itself.

        Raises:
            LeadershipLostError: it was lost, and the work was cancelled.
            otherwise what the work raises.
        """
        try:
            await self._wait_to_lead()
            log.info("%s leads", self._identity)
            await self._lead(work)
        finally:
            if self._working is None or self._working.done():
                # Also who only waits may have it: a write of its own may have been stored that it got no answer to.
                await self._release()

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> None:
        self._working = working = asyncio.ensure_future(work())
        keeping = asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, keeping):
                task.cancel()
            # Without the deadline, work that does not end would keep a process that does nothing alive for ever.
            await asyncio.wait({working, keeping}, timeout=END_TIMEOUT_S)
            if not working.done():
                log.error("the work does not end, so the Lease is not released, and ends by itself")
        if not working.done():
            raise LeadershipLostError(f"the work did not end within {END_TIMEOUT_S:.0f} s")
        if (lost := _error_of(keeping)) is not None:
            raise LeadershipLostError(str(lost)) from _error_of(working)
        working.result()

    async def _wait_to_lead(self) -> None:
        waits_for: str | None = None
        while True:
            try:
                if await self._attempt():
                    return
            except (ApiUnavailableError, ApiError) as error:
                log.warning("the Lease can't be read or written: %s", error)
            else:
                if waits_for != self._candidacy.seen_holder:
                    waits_for = self._candidacy.seen_holder
                    log.info("%s waits: %s leads", self._identity, waits_for or "nobody")
            await asyncio.sleep(self._times.retry_s)

    async def _keep(self) -> None:
        """Renew, until it is lost."""
        while True:
            until = self._candidacy.valid_until
            assert until is not None
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise LeadershipLostError("the Lease could not be renewed in time")
            await asyncio.sleep(min(self._times.retry_s, left_s))
            try:
                async with asyncio.timeout(max(until - time.monotonic(), 0)):
                    await self._attempt()
            except (ApiUnavailableError, ApiError, TimeoutError) as error:
                log.warning("the Lease is not renewed: %s", error)

    async def _attempt(self) -> bool:
        """Take or renew the Lease, if it is time to. Tells whether this process has it.

        Raises:
            LeadershipLostError: it was lost.
        """
        lease = await self._cluster.get("Lease", self._namespace, self._name)
        if lease is None:
            lease = await self._cluster.apply("Lease", self._empty())
        match self._candidacy.decide(lease, time.monotonic()):
            case "lost":
                self._is_lost = True
                raise LeadershipLostError("another operator has the Lease, or may have it")
            case "wait":
                return False
        sent_at = time.monotonic()
        if not await self._is_replaced(self._candidacy.record(lease, time=_written_now())):
            return False  # the next look tells who was faster
        self._candidacy.written(sent_at=sent_at)
        return True

    async def _release(self) -> None:
        """Let another one lead at once."""
        self._is_lost = True
        try:
            # A renewal that was cancelled on its way may be stored between the look and the write.
            for _ in range(_RELEASE_ATTEMPTS):
                if await self._is_given_back():
                    return
        except (ApiUnavailableError, ApiError) as error:
            log.warning("the Lease is not released, and ends by itself: %s", error)

    async def _is_given_back(self) -> bool:
        lease = await self._cluster.get("Lease", self._namespace, self._name)
        if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self._identity:
            return True
        lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _written_now()}
        return await self._is_replaced(lease)

    async def _is_replaced(self, lease: Object) -> bool:
        """Write the Lease as it was read, and changed; tells whether nobody was faster."""
        try:
            await self._cluster.replace("Lease", lease)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True

    def _empty(self) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
        }


def _error_of(task: asyncio.Future[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _written_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
