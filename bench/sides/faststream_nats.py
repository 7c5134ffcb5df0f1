"""FastStream's requests over NATS, with text as the message: no model to validate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faststream.nats import NatsBroker

from bench.addresses import Addresses
from bench.load import TEXT, Call

SUBJECT = "bench.faststream"


@asynccontextmanager
async def server(addresses: Addresses) -> AsyncIterator[None]:
    broker = NatsBroker(addresses.nats_url, logger=None)

    @broker.subscriber(SUBJECT)
    async def echo(text: str) -> str:
        return text

    async with broker:
        await broker.start()
        yield


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    async with NatsBroker(addresses.nats_url, logger=None) as broker:

        async def call(caller: int) -> None:
            answer = await broker.request(TEXT, SUBJECT, timeout=10)
            assert await answer.decode() == TEXT

        yield call
