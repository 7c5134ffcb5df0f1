"""Agents in processes of their own, which do what their messages say; some of it ends the process.

Run with `python -m broker.rules.agents URL NAMESPACE FOLDER TYPE...` in the folder of the tests. The folder holds a
journal, one file for each process, and flags that the tests set.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from hivewire import (
    AgentId,
    BaseAgent,
    MessageContext,
    NatsAgentRuntime,
    RetryPolicy,
    TopicId,
    TypeSubscription,
    stateless_worker,
)
from hivewire.nats import stateless, topology


class Notebook:
    """What all processes of a test wrote down, in the order of each process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, *what: Any) -> None:
        with (self.folder / f"{os.getpid()}.notes").open("a") as file:
            file.write(json.dumps(what) + "\n")

    def read(self) -> list[list[Any]]:
        lines = [
            line
            for file in sorted(self.folder.glob("*.notes"))
            for line in file.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        return [json.loads(line) for line in lines]

    def flag(self, name: str) -> Path:
        return self.folder / f"{name}.flag"


class Obedient(BaseAgent):
    """Does what a message says, and notes it."""

    notebook: ClassVar[Notebook]
    retry_policy = RetryPolicy(attempts=3, first_delay_s=0.05, max_delay_s=0.2)

    def __init__(self) -> None:
        super().__init__("does what it is told")
        self.seen: list[Any] = []

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        self.notebook.write(self.id.type, self.id.key, message, os.getpid())
        match message:
            case "look":
                return list(self.seen)
            case "who":
                return os.getpid()
            case "die":
                os._exit(13)
            case "fail":
                raise RuntimeError("told to")
            case ["sleep", seconds, *_]:
                await asyncio.sleep(seconds)
            case ["block", seconds, *_]:
                # What a process has not received it can't give signs of life for.
                await asyncio.sleep(3)
                time.sleep(seconds)  # that it blocks is the point
            case ["publish", *what]:
                await self.publish_message(what, TopicId("out", "o"))
                await self._hold("published")
            case ["round", number]:
                self.seen.append(["begins", number])
                await self.send_message(["back", number], AgentId("relay", self.id.key))
                await self._hold("between")
        self.seen.append(message)
        return list(self.seen)

    async def _hold(self, what: str) -> None:
        self.notebook.write(what, os.getpid())
        while self.notebook.flag("hold").exists():
            await asyncio.sleep(0.02)


class Ledger(Obedient):
    """It persists."""

    async def save_state(self) -> Mapping[str, Any]:
        return {"seen": list(self.seen)}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.seen = list(state["seen"])


class Relay(BaseAgent):
    """Calls the ledger back that called it."""

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        assert ctx.sender is not None
        return await self.send_message(["inner", message[1]], ctx.sender)


@stateless_worker
class Anybody(Obedient):
    """Nobody's in particular."""


TYPES: dict[str, type[BaseAgent]] = {"ledger": Ledger, "plain": Obedient, "relay": Relay, "anybody": Anybody}


async def _main(url: str, namespace: str, folder: str, *types: str) -> None:
    Obedient.notebook = Notebook(Path(folder))
    # So that a test need not wait half a minute for each death.
    topology.ACK_WAIT_S = 2
    stateless.PROGRESS_EVERY_S = 0.5
    runtime = NatsAgentRuntime(url, namespace=namespace)
    for name in types:
        cls = TYPES[name]
        factory = (lambda: Relay("relay")) if cls is Relay else cls
        await cls.register(runtime, name, factory)  # type: ignore[arg-type]
        await runtime.add_subscription(TypeSubscription(f"for-{name}", name))
    await runtime.start()
    print("serving", flush=True)
    await runtime.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
