"""Agents and helpers for the tests of workers over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.conftest import DEADLINE_S
from hivewire import AgentRuntime, BaseAgent, MessageContext, RetryPolicy, TypeSubscription


@dataclass
class Step:
    number: int


class Counter(BaseAgent):
    """Adds up what it gets, keeps the sum, and answers with it. Slow for as long as its gate is shut."""

    retry_policy = RetryPolicy(attempts=1)

    def __init__(self, log: Log) -> None:
        super().__init__("counts")
        self.log = log
        self.total = 0
        self.numbers: list[int] = []

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        self.log.entered.append((self.id.key, message.number))
        await self.log.gate.wait()
        self.total += message.number
        self.numbers.append(message.number)
        self.log.handled.append((self.id.key, message.number))
        return Step(self.total)

    async def save_state(self) -> Mapping[str, Any]:
        return {"total": self.total, "numbers": self.numbers}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.total, self.numbers = state["total"], list(state["numbers"])

    async def close(self) -> None:
        self.log.closed.append(self.id.key)


@dataclass
class Log:
    """What the counters of one process did."""

    entered: list[tuple[str, int]] = field(default_factory=list)
    handled: list[tuple[str, int]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()


async def serve_counters(runtime: AgentRuntime, agent_type: str = "counter") -> Log:
    """Register counters that also get the events of the topic type `steps`."""
    log = Log()
    await runtime.register_factory(agent_type, lambda: Counter(log), expected_class=Counter)
    await runtime.add_subscription(TypeSubscription("steps", agent_type))
    return log


async def until(condition: Callable[[], bool], *, timeout_s: float = DEADLINE_S) -> None:
    """Wait for something that must come about."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
