"""One run in which many streams flow while their producers, readers or the broker are killed."""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal, Self

from chaos.cluster import Cluster
from chaos.handlers import count_running
from chaos.report import Figures, spread
from chaos.streams import COMPLETE, ROUTE, Flow, Reading, order
from chaos.waiting import until
from child_processes import Program
from hivewire import HivewireError, NatsAgentRuntime
from hivewire.nats.lease import SESSION_TTL_S

Victim = Literal["nobody", "producer", "middle", "reader", "broker"]

LOST_WITHIN_S = 10.0
FREE_WITHIN_S = 5.0
ENDS_WITHIN_S = 60.0
GROWTH_LIMIT_MIB = 32.0
"""By how much a process may be larger at the end than after its first rounds."""

WARM_ROUNDS = 4

SHORT_BREAK_S = (0.0, 2.0)
LONG_BREAK_S = (SESSION_TTL_S + 2.0, SESSION_TTL_S + 6.0)
"""How long the broker is away: sessions outlive the short breaks and not the long ones."""

_PROGRAM = Path(__file__).with_name("streams.py")
_EXPLAINED: dict[Victim, str] = {
    "producer": "WorkerLostError",
    "middle": "WorkerLostError",
    "broker": "BrokerUnavailableError",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A stream, and how fast it is read."""

    flow: Flow
    pause_s: float


def some_flows(dice: random.Random, count: int, prefix: str) -> list[Planned]:
    """Return streams of all kinds: chunks of 1 byte to 512 KiB, fast and slow on either side, up to three deep."""
    planned = []
    for number in range(count):
        smallest, largest, most = dice.choice(
            [
                (1, 1, 600),
                (1, 200, 400),
                (1_024, 16_384, 200),
                (65_536, 65_536, 60),
                (1, 524_288, 40),
                (524_288,) * 2 + (8,),
            ]
        )
        chunks = dice.randint(1, most)
        lasts_s = dice.choice([0.0, *(dice.uniform(0.5, 5.0) for _ in range(4))])
        slow = dice.choice(["producer", "reader"])
        flow = Flow(f"{prefix}.{number}", chunks, smallest, largest, hops=dice.randrange(len(ROUTE)))
        if slow == "producer":
            flow.pause_s = lasts_s / chunks
        planned.append(Planned(flow=flow, pause_s=lasts_s / chunks if slow == "reader" else 0.0))
    return planned


class Delta:
    """`async with` it: two sources, two relays and two readers run; each `round` kills one of them, or the broker.

    Args:
        breaks_s: The least and the most that the broker is away, one of them each time.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        *,
        breaks_s: Sequence[tuple[float, float]] = (SHORT_BREAK_S, LONG_BREAK_S),
    ) -> None:
        self._cluster = cluster
        self._breaks_s = breaks_s
        self._namespace = namespace
        self._driver = NatsAgentRuntime(cluster.urls, namespace=namespace)
        self._resources = AsyncExitStack()
        self._processes: dict[str, Program] = {}
        self._generation = 0
        self._sizes_mib: dict[str, list[float]] = {}
        self._lost_s: list[float] = []
        self._free_s: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.streams = 0
        self.violations: list[str] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            self._resources = resources
            names = ("source-a", "source-b", "relay1", "relay2", "reader-a", "reader-b")
            for name in names:
                self._processes[name] = await self._launch(name)
            resources.push_async_callback(self._driver.stop)
            await self._driver.connect()
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def round(self, victim: Victim, streams: int, dice: random.Random) -> None:
        """Let streams flow and kill somebody; what is wrong with their outcomes goes among the violations."""
        await asyncio.gather(*(each.printed("serving") for each in self._processes.values()))
        self._generation += 1
        planned = some_flows(dice, streams, f"r{self._generation}")
        by_reader = {"reader-a": planned[::2], "reader-b": planned[1::2]}
        for name, flows in by_reader.items():
            for each in flows:
                self._processes[name].say(order(each.flow, each.pause_s))
        self.streams += len(planned)
        await asyncio.sleep(dice.uniform(0, 1.5))
        killed_s = await self._kill(victim, dice)
        if victim == "reader":
            await self._freed([each.flow.id for each in by_reader.pop("reader-b")], killed_s)
        async with asyncio.TaskGroup() as endings:
            for name, flows in by_reader.items():
                for each in flows:
                    endings.create_task(self._judge(victim, each.flow, self._processes[name], killed_s))
        await self._rest([each.flow.id for each in planned])
        for name in ("source-a", "relay1", "reader-a"):
            self._sizes_mib.setdefault(name, []).append(size_mib(self._processes[name].pid))

    def figures(self, name: str, *, took_s: float) -> Figures:
        """Sum up all rounds."""
        figures: dict[str, float] = {"streams": self.streams, **self.outcomes}
        figures |= spread("s until a producer counted as lost", self._lost_s)
        figures |= spread("s until a dead reader's producers were free", self._free_s)
        violations = list(self.violations)
        for process, sizes in self._sizes_mib.items():
            warm = max(sizes[:WARM_ROUNDS])
            figures[f"MiB, {process}, warm"] = round(warm, 1)
            figures[f"MiB, {process}, at the end"] = round(sizes[-1], 1)
            if sizes[-1] - warm > GROWTH_LIMIT_MIB:
                violations.append(f"{process} grew from {warm:.0f} to {sizes[-1]:.0f} MiB")
        return Figures(name=name, figures=figures, took_s=took_s, violations=violations)

    async def _kill(self, victim: Victim, dice: random.Random) -> float:
        killed_s = monotonic()
        match victim:
            case "broker":
                (node,) = self._cluster.nodes
                await node.kill()
                await asyncio.sleep(dice.uniform(*dice.choice(self._breaks_s)))
                self._cluster.start(node)
                await node.healthy()
            case "producer" | "middle" | "reader":
                name = {"producer": "source-b", "middle": "relay2", "reader": "reader-b"}[victim]
                self._processes[name].kill()
                self._processes[name] = await self._launch(name)
        return killed_s

    async def _judge(self, victim: Victim, flow: Flow, reader: Program, killed_s: float) -> None:
        reading = await self._reading(flow, reader)
        if reading is None:
            self.violations.append(f"{victim} killed: {flow} has no end; {reader.errors[-2000:]}")
            return
        self.outcomes[f"{victim} killed: {reading.outcome}"] += 1
        if reading.outcome == COMPLETE:
            return
        after_s = reading.ended_s - killed_s
        if reading.outcome != _EXPLAINED.get(victim):
            self.violations.append(f"{victim} killed: {flow} ended after {after_s:.1f} s with {reading}")
        elif victim != "broker":
            self._lost_s.append(after_s)
            if after_s > LOST_WITHIN_S:
                self.violations.append(f"{victim} killed: the reader of {flow} learnt it after {after_s:.1f} s")

    async def _reading(self, flow: Flow, reader: Program) -> Reading | None:
        try:
            line = await reader.printed(f"read {flow.id} ", timeout_s=ENDS_WITHIN_S)
        except AssertionError:
            return None
        return Reading(**json.loads(line.split(" ", 2)[2]))

    async def _freed(self, flows: Sequence[str], killed_s: float) -> None:
        await self._rest(flows)
        self._free_s.append(monotonic() - killed_s)
        if self._free_s[-1] > FREE_WITHIN_S:
            self.violations.append(f"handlers ran {self._free_s[-1]:.1f} s for a reader that was killed")

    async def _rest(self, flows: Sequence[str]) -> None:
        said: object = None

        async def rests() -> bool:
            nonlocal said
            try:
                said = await count_running(self._driver, ("source-a", "source-b", "relay1", "relay2"), flows)
            except HivewireError as error:
                said = error  # One of them has just been killed.
            return said == 0

        try:
            await until(rests, "no handler runs for a stream that has ended", timeout_s=ENDS_WITHIN_S)
        except AssertionError:
            raise AssertionError(f"handlers run for streams that have ended, or can't be counted: {said!r}") from None

    async def _launch(self, name: str) -> Program:
        role = name.partition("-")[0]
        program = Program(
            _PROGRAM, role, self._cluster.urls, self._namespace, name, HIVEWIRE_CHAOS_PARENT=str(os.getpid())
        )
        return await self._resources.enter_async_context(program)


def size_mib(pid: int) -> float:
    """Return how much memory of a process is resident."""
    (kib,) = (line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line)
    return int(kib) / 1024
