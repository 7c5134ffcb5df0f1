"""One run that fells trees of calls: their processes, several trees at a time, and what came of each."""

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Self

from chaos.handlers import count_running
from chaos.report import Figures, spread
from chaos.trees import CALL_TIMEOUT_S, ENDINGS, HANDLERS, LEAVES, LEVELS, Felling, Grow, Grown, command
from chaos.waiting import until
from child_processes import Program
from hivewire import AgentId, NatsAgentRuntime
from hivewire.model.grace import GRACE_S

KILLED = "killed"
WORK_S = 50.0
"""How long the longest leaves work: longer than any handler may go on that is cancelled."""

_LONGEST_GROWTH_S = 1.2
_SPARES = 2
_PROGRAM = Path(__file__).with_name("trees.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """What the journals tell about one handler. Times are on the machine's clock."""

    tree: str
    name: str
    started_s: float
    token_s: float | None
    ended_s: float | None

    @property
    def level(self) -> int:
        return int(self.name.split("/")[1].removeprefix("level"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Felled:
    """One tree whose root's call was ended at `event_s`; after `rest_s` none of its handlers ran any more."""

    tree: str
    ending: str
    event_s: float
    rest_s: float


class Grove:
    """`async with` it: the processes of all levels serve, and `fell` does the rest.

    Args:
        at_once: How many trees there are at a time, each with agents and a caller of its own.
    """

    def __init__(self, url: str, namespace: str, directory: Path, *, at_once: int) -> None:
        self._url = url
        self._namespace = namespace
        self._directory = directory
        self._at_once = at_once
        self._driver = NatsAgentRuntime(url, namespace=namespace)
        self._resources = AsyncExitStack()
        self._levels: list[Program] = []
        self._spares: asyncio.Queue[Program] = asyncio.Queue(maxsize=_SPARES)
        self.felled: list[Felled] = []
        self.halves = 0
        directory.mkdir()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            self._resources = resources
            self._levels = [await self._start("level", str(self._directory), str(n + 1)) for n in range(LEVELS)]
            for level in self._levels:
                await level.printed("serving")
            resources.push_async_callback(self._driver.stop)
            await self._driver.connect()
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def fell(self, endings: Sequence[str], dice: random.Random) -> None:
        """Fell a tree in each of these ways. Raises what goes wrong with one of them."""
        fellings = iter(
            [
                Felling(
                    tree=f"t{number}",
                    root="",
                    ending=ending,
                    after_s=dice.uniform(0, dice.choice([0.1, _LONGEST_GROWTH_S])),
                    work_s=WORK_S,
                )
                for number, ending in enumerate(endings)
            ]
        )
        spares = asyncio.create_task(self._keep_spares(sum(ending == KILLED for ending in endings)))
        try:
            async with asyncio.TaskGroup() as places:
                for number in range(self._at_once):
                    places.create_task(self._fell_at(f"p{number}", fellings))
        finally:
            spares.cancel()
            await asyncio.gather(spares, return_exceptions=True)

    async def lose_level(self, number: int) -> tuple[float, BaseException | None]:
        """Kill the process of a level when the tree `lost` is full-grown; return when, and what its caller got."""
        recipient = AgentId("level1", "lost")
        call = asyncio.create_task(self._driver.send_message(Grow("lost", WORK_S), recipient, timeout=CALL_TIMEOUT_S))
        names = [f"level{n + 1}" for n in range(LEVELS)]

        async def is_grown() -> bool:
            return await count_running(self._driver, names, ["lost"]) > HANDLERS - LEAVES

        await until(is_grown, "the tree has grown")
        self._levels[number - 1].kill()
        killed_s = monotonic()
        await asyncio.wait([call])
        return killed_s, call.exception()

    def handlers(self) -> list[Handler]:
        """Read the journals."""
        times: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for path in self._directory.glob("*.journal"):
            for line in path.read_text().splitlines():
                at_s, name, what = line.split()
                times[name][what] = float(at_s)
        return [
            Handler(
                tree=name.partition("/")[0],
                name=name,
                started_s=at["started"],
                token_s=at.get("token"),
                ended_s=at.get("ended"),
            )
            for name, at in times.items()
        ]

    def figures(self, name: str, *, token_within_s: float, took_s: float) -> Figures:
        """Sum up what was felled, with a violation for each handler that saw its token late or never."""
        by_tree = {felled.tree: felled for felled in self.felled}
        delays: defaultdict[str, list[float]] = defaultdict(list)
        violations = []
        for handler in self.handlers():
            felled = by_tree.get(handler.tree)
            if felled is None:
                continue
            since = max(felled.event_s, handler.started_s)
            seen = min(handler.token_s or float("inf"), handler.ended_s or float("inf"))
            if seen - since > token_within_s:
                violations.append(f"{felled.ending}: {handler.name} saw its token {seen - since:.3f} s late")
            if handler.token_s is not None:
                delays[felled.ending].append(max(0.0, handler.token_s - since))
        figures: dict[str, float] = {
            "trees": len(self.felled),
            "handlers": sum(map(len, delays.values())),
            "leaves that found their state half changed": self.halves,
        }
        for ending in (*ENDINGS, KILLED):
            figures |= spread(f"s to the token, {ending}", delays[ending])
        figures |= spread("s until none of a tree ran", [felled.rest_s for felled in self.felled])
        return Figures(name=name, figures=figures, took_s=took_s, violations=violations)

    async def _fell_at(self, root: str, fellings: Iterator[Felling]) -> None:
        caller = await self._new_caller()
        for planned in fellings:
            felling = Felling(
                tree=planned.tree, root=root, ending=planned.ending, after_s=planned.after_s, work_s=planned.work_s
            )
            caller.say(command(felling))
            if felling.ending == KILLED:
                await caller.printed(f"begins {felling.tree} ")
                await asyncio.sleep(felling.after_s)
                event_s = monotonic()
                caller.kill()
                caller = await self._spares.get()
            else:
                event_s = float((await caller.printed(f"ended {felling.tree} ")).split()[-1])
            await until(
                lambda: self._rests(felling.tree),
                f"no handler of {felling} runs",
                timeout_s=event_s + GRACE_S - monotonic(),
            )
            self.felled.append(
                Felled(tree=felling.tree, ending=felling.ending, event_s=event_s, rest_s=monotonic() - event_s)
            )
            await self._grows_again(felling)

    async def _rests(self, tree: str) -> bool:
        return await count_running(self._driver, [f"level{n + 1}" for n in range(LEVELS)], [tree]) == 0

    async def _grows_again(self, felling: Felling) -> None:
        """See that the agents of a tree that was felled answer as ever."""
        again = Grow(f"{felling.tree}-again", 0.0)
        grown: Grown = await self._driver.send_message(again, felling.recipient, timeout=CALL_TIMEOUT_S)
        assert grown.leaves == LEAVES, f"{felling}: {grown} of {LEAVES} leaves answered afterwards"
        self.halves += grown.halves

    async def _keep_spares(self, needed: int) -> None:
        for _ in range(needed):
            await self._spares.put(await self._new_caller())

    async def _new_caller(self) -> Program:
        caller = await self._start("caller")
        await caller.printed("serving")
        return caller

    async def _start(self, role: str, *arguments: str) -> Program:
        program = Program(
            _PROGRAM, role, self._url, self._namespace, *arguments, HIVEWIRE_CHAOS_PARENT=str(os.getpid())
        )
        return await self._resources.enter_async_context(program)
