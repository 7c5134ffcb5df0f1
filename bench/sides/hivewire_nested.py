"""Hivewire over NATS, with a call within each call, which ends with the one around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.addresses import Addresses
from bench.load import MAX_CALLERS, TEXT, Call
from bench.sides.hivewire_nats import Echo
from bench.sides.hivewire_nats import server as inner
from hivewire import AgentId, MessageContext, NatsAgentRuntime, RoutedAgent, message_handler

__all__ = ["client", "inner", "server"]


class Outer(RoutedAgent):
    @message_handler
    async def on_echo(self, message: Echo, ctx: MessageContext) -> Echo:
        answer: Echo = await self.send_message(message, AgentId("echo", self.id.key))
        return answer


@asynccontextmanager
async def server(addresses: Addresses) -> AsyncIterator[None]:
    async with NatsAgentRuntime(addresses.nats_url) as runtime:
        await Outer.register(runtime, "outer", Outer)
        yield


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    runtime = NatsAgentRuntime(addresses.nats_url)
    await runtime.connect()
    recipients = [AgentId("outer", f"caller-{number}") for number in range(MAX_CALLERS)]

    async def call(caller: int) -> None:
        answer = await runtime.send_message(Echo(TEXT), recipients[caller])
        assert answer.text == TEXT

    try:
        yield call
    finally:
        await runtime.stop()
