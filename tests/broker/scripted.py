"""Agents that do what their test says."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hivewire import AgentId, BaseAgent, MessageContext, NatsAgentRuntime, RetryPolicy, TypeSubscription

TOPIC_TYPE = "t"


@dataclass
class Number:
    value: int


Handle = Callable[["Scripted", Any, MessageContext], Awaitable[Any]]


class Scripted(BaseAgent):
    """Answers with the message that it got, or does what the handler says. Notes what it got, with the context.

    An event that it fails on is not handled again.
    """

    retry_policy = RetryPolicy(attempts=1)

    def __init__(self, handle: Handle | None = None) -> None:
        super().__init__("scripted")
        self._handle = handle
        self.seen: list[Any] = []
        self.contexts: list[MessageContext] = []
        self.closed = 0

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        self.seen.append(message)
        self.contexts.append(ctx)
        return message if self._handle is None else await self._handle(self, message, ctx)

    async def close(self) -> None:
        self.closed += 1


class Counter(Scripted):
    """Persists how many messages it has handled to their end."""

    def __init__(self, handle: Handle | None = None) -> None:
        super().__init__(handle)
        self.count = 0

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> int:
        await super().on_message_impl(message, ctx)
        self.count += 1
        return self.count

    async def save_state(self) -> Mapping[str, Any]:
        return {"count": self.count}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


class Gate:
    """A handler that waits to be let go."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = 0
        self.running = 0
        self.most = 0

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        self.entered += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.opened.wait()
        finally:
            self.running -= 1
        return message


async def serve(runtime: NatsAgentRuntime, type: str, handle: Handle | None = None) -> None:
    """Register a type of scripted agents that subscribes to the topic type `t`."""
    await runtime.register_factory(type, lambda: Scripted(handle), expected_class=Scripted)
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, type))


async def agent_at(runtime: NatsAgentRuntime, type: str, key: str = "k") -> Scripted:
    """Return the object of an agent that lives in this runtime."""
    return await runtime.try_get_underlying_agent_instance(AgentId(type, key), Scripted)


async def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # what it waits for tells nobody
            await asyncio.sleep(0.005)
