"""AutoGen's runtime within one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

from bench.addresses import Addresses
from bench.load import MAX_CALLERS, TEXT, Call


@dataclass
class Echo:
    text: str


class EchoAgent(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("echo")

    @message_handler
    async def on_echo(self, message: Echo, ctx: MessageContext) -> Echo:
        return message


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    runtime = SingleThreadedAgentRuntime()
    await EchoAgent.register(runtime, "echo", EchoAgent)
    recipients = [AgentId("echo", f"caller-{number}") for number in range(MAX_CALLERS)]
    runtime.start()

    async def call(caller: int) -> None:
        answer = await runtime.send_message(Echo(TEXT), recipients[caller])
        assert answer.text == TEXT

    try:
        yield call
    finally:
        await runtime.stop()
