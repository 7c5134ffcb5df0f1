"""Hivewire's streams over NATS, of one chunk each: how soon that is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.addresses import Addresses
from bench.load import MAX_CALLERS, TEXT, Call
from bench.sides.hivewire_chunks import Ask, Chunk, server
from hivewire import AgentId, NatsAgentRuntime

__all__ = ["client", "server"]


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    runtime = NatsAgentRuntime(addresses.nats_url)
    await runtime.connect()
    recipients = [AgentId("source", f"caller-{number}") for number in range(MAX_CALLERS)]

    async def read(caller: int) -> None:
        chunks = [chunk async for chunk in runtime.stream_message(Ask(1), recipients[caller])]
        assert chunks == [Chunk(TEXT)]

    try:
        yield read
    finally:
        await runtime.stop()
