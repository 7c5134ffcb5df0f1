"""Hivewire over NATS: a process that serves an agent type, and one that sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.addresses import Addresses
from bench.load import MAX_CALLERS, TEXT, Call
from hivewire import AgentId, MessageContext, NatsAgentRuntime, RoutedAgent, message_handler


@dataclass
class Echo:
    text: str


class EchoAgent(RoutedAgent):
    @message_handler
    async def on_echo(self, message: Echo, ctx: MessageContext) -> Echo:
        return message


@asynccontextmanager
async def server(addresses: Addresses, *, namespace: str = "default") -> AsyncIterator[None]:
    async with NatsAgentRuntime(addresses.nats_url, namespace=namespace) as runtime:
        await EchoAgent.register(runtime, "echo", EchoAgent)
        yield


@asynccontextmanager
async def client(addresses: Addresses, *, namespace: str = "default") -> AsyncIterator[Call]:
    runtime = NatsAgentRuntime(addresses.nats_url, namespace=namespace)
    await runtime.connect()
    recipients = [AgentId("echo", f"caller-{number}") for number in range(MAX_CALLERS)]

    async def call(caller: int) -> None:
        answer = await runtime.send_message(Echo(TEXT), recipients[caller])
        assert answer.text == TEXT

    try:
        yield call
    finally:
        await runtime.stop()
