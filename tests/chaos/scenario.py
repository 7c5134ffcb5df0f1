"""One chaos run from its start to its verdict: brokers, workers, a load, and the check at the end.

The verdict is taken from what is stored: every worker is drained, a fresh one is started, and the ledgers that it
loads are compared with what the load's sender knows.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence, Set
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Self

from chaos.agents import HOOK_VARIABLE
from chaos.cluster import Cluster
from chaos.fleet import Fleet
from chaos.load import Load, LoadPlan
from chaos.model import DONE, Handled, History, Violation, check
from chaos.observation import dead_letters, live_sessions, read_ledgers
from chaos.progress import longest_gap_s
from chaos.report import Report
from hivewire import NatsAgentRuntime
from hivewire.nats.tokens import slot

PUBLISH_TIMEOUT_S = 30.0
SHARDS = 16
SHOWN_VIOLATIONS = 20

PATIENCE_S = 30.0
"""How long nothing new may come into the ledgers until what is missing counts as lost. More than a lease, an election,
and the retries of a failing message together."""

_SETTLE_POLL_S = 0.25


class Scenario:
    """`async with` it: brokers, workers and load run inside, and `verdict` ends the run.

    Args:
        name: What the report calls it.
        cluster: Brokers that run already.
        workers: How many to start with.
        environment: Of the workers.
        reads_stored: Take the ledgers from what is stored; else from the memory of the workers that wrote them.
    """

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        plan: LoadPlan,
        *,
        namespace: str,
        directory: Path,
        workers: int = 2,
        environment: Mapping[str, str] | None = None,
        reads_stored: bool = True,
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.namespace = namespace
        self.fleet = Fleet(cluster.urls, namespace, directory, environment=environment)
        self.driver = NatsAgentRuntime(cluster.urls, namespace=namespace, publish_timeout=PUBLISH_TIMEOUT_S)
        self.load = Load(self.driver, plan, publish_timeout_s=PUBLISH_TIMEOUT_S)
        self._workers = workers
        self._reads_stored = reads_stored
        self._resources = AsyncExitStack()
        self._sending: asyncio.Task[None]
        self._begun_s = 0.0
        self.report: Report | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            await self.cluster.provision(self.namespace)
            await resources.enter_async_context(self.fleet)
            await self.fleet.start(self._workers)
            resources.push_async_callback(self.driver.stop)
            await self.driver.connect()
            self._begun_s = monotonic()
            self._sending = asyncio.create_task(self.load.run(), name="chaos: load")
            resources.push_async_callback(self._stop_sending)
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def sent(self) -> None:
        """End the load, once it has sent what it is to send at least, and wait until all of it has its outcome."""
        self.load.enough()
        await self._sending

    async def verdict(self, *, crash_free: bool = False) -> list[Violation]:
        """Let everything come to rest, and return what is wrong with what is stored.

        Args:
            crash_free: No process died or was paused, so each turn should have run once.
        """
        await self.sent()
        await self._settle()
        took_s = monotonic() - self._begun_s
        crashed = self.fleet.unexpected_ends()
        assert not crashed, f"{crashed} ended by themselves; the end of the output:\n{crashed[0].log[-3000:]}"
        handled = self.fleet.handled()
        if self._reads_stored:
            await self.fleet.stop()
            await self.fleet.start(environment={HOOK_VARIABLE: "", "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
        history = History(
            sent=self.load.sent,
            ended=self.load.ended,
            ledgers=await read_ledgers(self.driver, self.load.keys),
            dead=await self._dead(),
            handled_once=handled if crash_free else None,
        )
        violations = check(history)
        self.report = Report.of(
            self.name,
            history,
            violations,
            event_gap_s=self._gap_s("event", handled),
            call_gap_s=self._gap_s("call", handled),
            took_s=took_s,
        )
        self.report.publish()
        return violations

    async def passes(self, *, gap_s: float, crash_free: bool = False) -> Report:
        """Take the verdict, and fail unless nothing is wrong and no shard stood still for longer than `gap_s`."""
        violations = await self.verdict(crash_free=crash_free)
        shown = "\n".join(map(str, violations[:SHOWN_VIOLATIONS]))
        assert not violations, f"{len(violations)} violations in {self.name}, the first ones:\n{shown}"
        assert self.report is not None
        longest_s = max(self.report.event_gap_s, self.report.call_gap_s)
        assert longest_s <= gap_s, f"{self.name}: a shard stood still for {longest_s} s"
        return self.report

    def _gap_s(self, kind: str, handled: Sequence[Handled]) -> float:
        sent = [each for each in self.load.sent if each.kind == kind]
        return longest_gap_s(sent, handled, part_of=lambda key: slot(key) % SHARDS)

    async def _settle(self) -> None:
        """Wait until all that was accepted is in a ledger or a dead letter, or until nothing new comes."""
        accepted = {each.id for each in self.load.ended if each.outcome == DONE}
        waiting = {each.id: each.key for each in self.load.sent if each.id in accepted}
        quiet_since = monotonic()
        while waiting and monotonic() - quiet_since < PATIENCE_S:
            ledgers = await read_ledgers(self.driver, sorted(set(waiting.values())))
            found = {id for ledger in ledgers.values() for id in ledger.ids}.union(await self._dead())
            if found & waiting.keys():
                quiet_since = monotonic()
                waiting = {id: key for id, key in waiting.items() if id not in found}
            await asyncio.sleep(_SETTLE_POLL_S if waiting else 0)

    async def sessions(self) -> set[str]:
        """Return the sessions of all processes that live, as the broker sees it."""
        async with self.cluster.client() as client:
            return await live_sessions(client, self.namespace)

    async def session_ends(self, among: Set[str], *, timeout_s: float = 30.0) -> str:
        """Wait until one of these sessions has expired, and return it."""
        deadline = monotonic() + timeout_s
        while not (gone := among - await self.sessions()):
            assert monotonic() < deadline, f"all of {set(among)} still live"
            await asyncio.sleep(_SETTLE_POLL_S)
        return gone.pop()

    async def _dead(self) -> Sequence[str]:
        async with self.cluster.client() as client:
            return await dead_letters(client, self.namespace)

    async def _stop_sending(self) -> None:
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
