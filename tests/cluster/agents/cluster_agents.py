"""The agents that the scenarios on a cluster use.

`ledger` keeps in its state every number that it was told by an event, in their order; `worker` is stateless and counts
its events on `done`; `clerk` only answers direct messages, as slowly as it is asked to.
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hivewire import (
    AgentRuntime,
    MessageContext,
    RoutedAgent,
    TopicId,
    TypeSubscription,
    event,
    rpc,
    stateless_worker,
)


@dataclass
class Task:
    """The next number of a key, and how long it takes."""

    number: int
    takes_s: float = 0.0


@dataclass
class Question:
    """Something to answer, and how long that takes. `eat_mb` is memory that it takes too."""

    text: str
    takes_s: float = 0.0
    eat_mb: int = 0


@dataclass
class Recall:
    """Asks a ledger for its numbers."""


@dataclass
class Numbers:
    """What a ledger was told, and in which pod it is."""

    numbers: list[int]
    pod: str


class Ledger(RoutedAgent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("keeps what it is told")
        self._numbers: list[int] = []

    @event
    async def on_task(self, message: Task, ctx: MessageContext) -> None:
        await asyncio.sleep(message.takes_s)
        self._numbers.append(message.number)

    @rpc
    async def on_recall(self, message: Recall, ctx: MessageContext) -> Numbers:
        return Numbers(self._numbers, os.environ.get("INSTANCE_ID", ""))

    async def save_state(self) -> Mapping[str, Any]:
        return {"numbers": self._numbers}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self._numbers = list(state["numbers"])


@stateless_worker
class Worker(RoutedAgent):
    """Works off tasks, and tells of each on the topic `done`."""

    @event
    async def on_task(self, message: Task, ctx: MessageContext) -> None:
        await asyncio.sleep(message.takes_s)
        await self.publish_message(message, TopicId("done", str(message.number)))


class Clerk(RoutedAgent):
    """Answers."""

    @rpc
    async def on_question(self, message: Question, ctx: MessageContext) -> str:
        eaten = bytearray(message.eat_mb * 2**20)
        await asyncio.sleep(message.takes_s)
        return f"{message.text} {len(eaten) >> 20}".removesuffix(" 0")


async def setup(runtime: AgentRuntime) -> None:
    """Register those that AGENT_TYPES names, separated by commas; all without."""
    wanted = os.environ.get("AGENT_TYPES", "ledger,worker,clerk").split(",")
    if "ledger" in wanted:
        await Ledger.register(runtime, "ledger", Ledger)
        await runtime.add_subscription(TypeSubscription("task", "ledger"))
    if "worker" in wanted:
        await Worker.register(runtime, "worker", lambda: Worker("works"))
        await runtime.add_subscription(TypeSubscription("job", "worker"))
    if "clerk" in wanted:
        await Clerk.register(runtime, "clerk", lambda: Clerk("answers"))
