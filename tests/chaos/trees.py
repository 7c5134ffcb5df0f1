"""Trees of calls over processes, and the processes that they grow in.

Level n of a tree lives in the process that serves the type `level{n}`: its handler calls three agents of the next
level. Leaves keep state: two fields that differ only while a turn runs. A journal tells when each handler started, saw
its token and ended, on the one clock of the machine.

Run as a script this file is such a process: `trees.py level URL NAMESPACE DIRECTORY NUMBER`, or, to call the roots of
trees, `trees.py caller URL NAMESPACE`. It prints ``serving`` first and ends with the process that started it.
"""

import asyncio
import json
import logging
import os
import random
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from chaos.agents import Journal, end_with_parent
from chaos.handlers import Running, register_counting
from hivewire import AgentId, CancellationToken, MessageContext, NatsAgentRuntime, RoutedAgent, rpc

LEVELS = 4
FANOUT = 3
LEAVES = FANOUT ** (LEVELS - 1)
HANDLERS = sum(FANOUT**level for level in range(LEVELS))

CALL_TIMEOUT_S = 60.0
SEES_TOKEN_WITHIN_S = 5.0
"""How long a handler whose calls failed waits for its token before it gives up."""

ENDINGS = ("token", "task", "timeout", "wait_for", "deadline")
"""How a caller ends the call of a root. A killed caller is the other way."""


@dataclass
class Grow:
    """Asks for the tree, or the part of one, that begins at an agent. Half of the leaves work up to `work_s` for it,
    the others up to a hundredth of that."""

    tree: str
    work_s: float


@dataclass
class Grown:
    """What leaves answered: how many there are, and how many found their state half changed."""

    leaves: int
    halves: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Felling:
    """One tree, and how and when its call is ended. A caller reads it from its standard input."""

    tree: str
    root: str
    ending: str
    after_s: float
    work_s: float

    @property
    def recipient(self) -> AgentId:
        return AgentId("level1", self.root)


class Log:
    """Writes down what becomes of the handlers of this process, and counts those that run."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.running = Running()

    @contextmanager
    def handler(self, tree: str, agent: AgentId, ctx: MessageContext) -> Iterator[None]:
        name = f"{tree}/{agent.type}/{agent.key}"
        with self.running.handler(tree):
            self._journal.write(name, "started")
            ctx.cancellation_token.add_callback(lambda: self._journal.write(name, "token"))
            try:
                yield
            finally:
                self._journal.write(name, "ended")


class Branch(RoutedAgent):
    """Grows three trees of the next level, each from an agent of its own."""

    def __init__(self, log: Log) -> None:
        super().__init__("branch")
        self._log = log

    @rpc
    async def on_grow(self, message: Grow, ctx: MessageContext) -> Grown:
        with self._log.handler(message.tree, self.id, ctx):
            answers = await asyncio.gather(
                *(self._grow(n, message, ctx) for n in range(FANOUT)), return_exceptions=True
            )
            failures = [answer for answer in answers if isinstance(answer, BaseException)]
            if failures:
                if isinstance(failures[0], (asyncio.CancelledError, TimeoutError)):
                    await self._sees(ctx.cancellation_token)
                raise failures[0]
        return Grown(sum(each.leaves for each in answers), sum(each.halves for each in answers))

    async def _grow(self, number: int, message: Grow, ctx: MessageContext) -> Grown:
        if ctx.cancellation_token.is_cancelled:
            # What is called from now on would count as tidying up.
            raise asyncio.CancelledError(f"{message.tree} is felled")
        level = int(self.type.removeprefix("level"))
        below = AgentId(f"level{level + 1}", f"{self.id.key}.{number}")
        grown: Grown = await self.send_message(message, below)
        return grown

    async def _sees(self, token: CancellationToken) -> None:
        """Wait for the token: a call may fail a moment earlier, when they have the same deadline."""
        seen = asyncio.Event()
        token.add_callback(seen.set)
        async with asyncio.timeout(SEES_TOKEN_WITHIN_S):
            await seen.wait()


class Leaf(RoutedAgent):
    """Counts what it began and what it ended, with its work between the two."""

    def __init__(self, log: Log) -> None:
        super().__init__("leaf")
        self._log = log
        self._begun = self._ended = 0

    @rpc
    async def on_grow(self, message: Grow, ctx: MessageContext) -> Grown:
        dice = random.Random(f"{message.tree} {self.id.key}")
        with self._log.handler(message.tree, self.id, ctx):
            halves = int(self._begun != self._ended)
            self._begun += 1
            work = asyncio.ensure_future(asyncio.sleep(dice.uniform(0, message.work_s) * dice.choice([0.01, 1.0])))
            try:
                await ctx.cancellation_token.link_future(work)
            except asyncio.CancelledError:
                # Some clean up, and some of these answer all the same.
                if (manner := dice.choice(["stops", "cleans up", "answers"])) != "stops":
                    await asyncio.sleep(dice.uniform(0, 0.1))
                if manner != "answers":
                    raise
            self._ended += 1
        return Grown(1, halves)

    async def save_state(self) -> Mapping[str, Any]:
        return {"begun": self._begun, "ended": self._ended}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self._begun, self._ended = state["begun"], state["ended"]


async def serve_level(runtime: NatsAgentRuntime, number: int, journal: Journal) -> None:
    """Serve one level of all trees, and tell how many of its handlers run."""
    log = Log(journal)
    name = f"level{number}"
    if number < LEVELS:
        await Branch.register(runtime, name, lambda: Branch(log))
    else:
        await Leaf.register(runtime, name, lambda: Leaf(log))
    await register_counting(runtime, log.running, name)
    await runtime.start()


async def fell(runtime: NatsAgentRuntime, felling: Felling) -> float:
    """Grow a tree, end its call in the middle, and return when that was."""
    token, after_s = CancellationToken(), felling.after_s
    timeout = after_s if felling.ending == "deadline" else CALL_TIMEOUT_S
    begun = monotonic()
    call = asyncio.ensure_future(
        runtime.send_message(
            Grow(felling.tree, felling.work_s), felling.recipient, cancellation_token=token, timeout=timeout
        )
    )
    match felling.ending:
        case "token" | "task":
            await asyncio.sleep(after_s)
            event = monotonic()
            if felling.ending == "token":
                token.cancel()
            else:
                call.cancel()
            await _fails(call, asyncio.CancelledError)
            return event
        case "timeout":
            await _fails(_within(call, after_s), TimeoutError)
        case "wait_for":
            await _fails(asyncio.wait_for(call, after_s), TimeoutError)
        case _:
            await _fails(call, TimeoutError)
    return begun + after_s


async def _within(call: Awaitable[object], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await call


async def _fails(call: Awaitable[object], kind: type[BaseException]) -> None:
    try:
        answer = await call
    except kind:
        return
    raise AssertionError(f"the call was to fail with {kind.__name__} and answered {answer}")


async def _call(url: str, namespace: str) -> None:
    runtime = NatsAgentRuntime(url, namespace=namespace)
    await runtime.connect()
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print("serving", flush=True)
    while line := await commands.readline():
        felling = Felling(**json.loads(line))
        print(f"begins {felling.tree} .", flush=True)
        print(f"ended {felling.tree} {await fell(runtime, felling):.6f}", flush=True)
    await runtime.stop()


async def _serve(url: str, namespace: str, directory: str, number: str) -> None:
    runtime = NatsAgentRuntime(url, namespace=namespace, instance_id=f"level{number}")
    await serve_level(runtime, int(number), Journal(Path(directory) / f"level{number}.journal"))
    print("serving", flush=True)
    await runtime.wait_until_stopped()


def command(felling: Felling) -> str:
    return json.dumps(asdict(felling))


ROLES: dict[str, Callable[..., Awaitable[None]]] = {"level": _serve, "caller": _call}

if __name__ == "__main__":
    end_with_parent(int(os.environ["HIVEWIRE_CHAOS_PARENT"]))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s.%(msecs)03d %(name)s %(message)s")
    role, *arguments = sys.argv[1:]
    asyncio.run(ROLES[role](*arguments))  # type: ignore[arg-type]
