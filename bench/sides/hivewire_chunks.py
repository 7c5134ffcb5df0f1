"""Hivewire's streams over NATS: a process whose agents yield, and one that reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.addresses import Addresses
from bench.load import CHUNKS, MAX_CALLERS, TEXT, Call
from hivewire import AgentId, MessageContext, NatsAgentRuntime, RoutedAgent, message_handler

TIMEOUT_S = 3600.0
"""A stream stands still while other sides are measured."""


@dataclass
class Ask:
    chunks: int


@dataclass
class Chunk:
    text: str


class Source(RoutedAgent):
    @message_handler
    async def on_ask(self, message: Ask, ctx: MessageContext) -> AsyncIterator[Chunk]:
        for _ in range(message.chunks):
            yield Chunk(TEXT)


@asynccontextmanager
async def server(addresses: Addresses) -> AsyncIterator[None]:
    async with NatsAgentRuntime(addresses.nats_url) as runtime:
        await Source.register(runtime, "source", Source)
        yield


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    runtime = NatsAgentRuntime(addresses.nats_url)
    await runtime.connect()

    def new_stream(caller: int) -> AsyncIterator[Chunk]:
        return runtime.stream_message(Ask(CHUNKS), AgentId("source", f"caller-{caller}"), timeout=TIMEOUT_S)

    streams = [new_stream(caller) for caller in range(MAX_CALLERS)]

    async def take(caller: int) -> None:
        try:
            chunk = await anext(streams[caller])
        except StopAsyncIteration:
            streams[caller] = new_stream(caller)
            chunk = await anext(streams[caller])
        assert chunk.text == TEXT

    try:
        yield take
    finally:
        await runtime.stop()
