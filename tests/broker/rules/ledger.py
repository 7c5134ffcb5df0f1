"""An agent that persists what it has handled, in the order in which it did."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hivewire import AgentId, BaseAgent, MessageContext, NatsAgentRuntime, RetryPolicy, TypeSubscription

TOPIC_TYPE = "t"
QUICK = RetryPolicy(attempts=3, first_delay_s=0.05, factor=2.0, max_delay_s=0.2)

Handle = Callable[["Ledger", Any, MessageContext], Awaitable[Any]]


class Ledger(BaseAgent):
    """Appends each message to its ledger, after it has done what its handler says, and answers with the ledger."""

    retry_policy = QUICK

    def __init__(self, handle: Handle | None = None) -> None:
        super().__init__("a ledger")
        self._handle = handle
        self.seen: list[Any] = []
        self.closed = 0

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        if self._handle is not None:
            await self._handle(self, message, ctx)
        if message != "look":
            self.seen.append(message)
        return list(self.seen)

    async def save_state(self) -> Mapping[str, Any]:
        return {"seen": list(self.seen)}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.seen = list(state["seen"])

    async def close(self) -> None:
        self.closed += 1


async def serve(
    runtime: NatsAgentRuntime, handle: Handle | None = None, *, type: str = "ledger", cls: type[Ledger] = Ledger
) -> NatsAgentRuntime:
    """Register a type of ledgers that subscribes to the topic type `t`, and start."""
    await cls.register(runtime, type, lambda: cls(handle))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, type))
    await runtime.start()
    return runtime


async def ledger_of(runtime: NatsAgentRuntime, key: str = "k", type: str = "ledger") -> list[Any]:
    """Ask an agent for its ledger."""
    answer: list[Any] = await runtime.send_message("look", AgentId(type, key))
    return answer


async def ledger_reaches(
    runtime: NatsAgentRuntime, count: int, key: str = "k", type: str = "ledger", timeout_s: float = 20.0
) -> list[Any]:
    """Wait until an agent's ledger has so many entries, and return it."""
    async with asyncio.timeout(timeout_s):
        while len(entries := await ledger_of(runtime, key, type)) < count:
            await asyncio.sleep(0.05)
    return entries


async def comes_true(condition: Callable[[], Awaitable[Any]], timeout_s: float = 20.0) -> Any:
    """Wait until an awaited condition holds, and return what it said."""
    async with asyncio.timeout(timeout_s):
        while not (outcome := await condition()):
            await asyncio.sleep(0.05)
    return outcome
