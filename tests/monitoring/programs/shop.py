"""Agents that do all that a process can count: events and calls that go well and fail, states, streams."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from hivewire import (
    AgentId,
    AgentRuntime,
    MessageContext,
    RetryPolicy,
    RoutedAgent,
    TopicId,
    event,
    rpc,
    stateless_worker,
    type_subscription,
)
from hivewire.distributed import NatsAgentRuntime
from hivewire.health import HealthServer, metrics_page

MAX_AGENTS = 5


@dataclass
class Order:
    item: str


@dataclass
class Price:
    item: str


@dataclass
class Watch:
    steps: int


@type_subscription("orders")
class Cart(RoutedAgent):
    """Keeps a state, asks what things cost, and tells what was sold."""

    retry_policy = RetryPolicy(attempts=3, first_delay_s=0.1, max_delay_s=0.2)

    def __init__(self) -> None:
        super().__init__("keeps a cart")
        self.items = 0

    @event
    async def on_order(self, message: Order, ctx: MessageContext) -> None:
        if message.item == "poison" or (message.item == "luck" and random.random() < 0.5):
            raise ValueError(message.item)
        price = await self.send_message(Price("tea"), AgentId("till", self.id.key))
        self.items += 1
        await self.publish_message(f"{message.item} for {price}", TopicId("receipts", self.id.key))

    async def save_state(self) -> dict[str, Any]:
        return {"items": self.items}

    async def load_state(self, state: Any) -> None:
        self.items = state["items"]


class Till(RoutedAgent):
    """Knows what things cost."""

    def __init__(self) -> None:
        super().__init__("knows prices")

    @rpc
    async def price(self, message: Price, ctx: MessageContext) -> float:
        await asyncio.sleep(random.choice((0.001, 0.001, 0.001, 0.03)))
        if message.item == "soap":
            raise ValueError("not for sale")
        return 4.5

    @rpc
    async def watch(self, message: Watch, ctx: MessageContext) -> AsyncIterator[str]:
        for step in range(message.steps):
            yield f"step {step}"
            await asyncio.sleep(0.01)


@stateless_worker
@type_subscription("receipts")
class Mailer(RoutedAgent):
    """Has no key to keep."""

    def __init__(self) -> None:
        super().__init__("mails")

    @event
    async def on_receipt(self, message: str, ctx: MessageContext) -> None:
        await asyncio.sleep(0.002)


async def setup(runtime: AgentRuntime) -> None:
    await Cart.register(runtime, "cart", Cart)
    await Till.register(runtime, "till", Till)
    await Mailer.register(runtime, "mailer", Mailer)


async def _serve_with_little_memory() -> None:
    """Serve with room for few agents, so that some leave it."""
    runtime = NatsAgentRuntime(
        os.environ["BROKER_URL"], namespace=os.environ["HIVEWIRE_NAMESPACE"], max_agents=MAX_AGENTS
    )
    await runtime.connect()
    await setup(runtime)
    await runtime.start()
    pages = {"/metrics": metrics_page}
    with HealthServer("127.0.0.1", 0, readiness=lambda: runtime.ready, pages=pages) as server:
        print(f"/metrics is served on port {server.port}", flush=True)
        await runtime.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(_serve_with_little_memory())
