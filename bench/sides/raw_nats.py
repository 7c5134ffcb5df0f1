"""nats-py alone: request-reply without types, agents or guarantees. What the others that go over NATS stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.msg import Msg

from bench.addresses import Addresses
from bench.load import TEXT, Call

SUBJECT = "bench.raw"
PAYLOAD = TEXT.encode()


@asynccontextmanager
async def server(addresses: Addresses) -> AsyncIterator[None]:
    async def echo(message: Msg) -> None:
        await message.respond(message.data)

    async with await nats.connect(addresses.nats_url) as connection:
        await connection.subscribe(SUBJECT, cb=echo)
        await connection.flush()
        yield


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    async with await nats.connect(addresses.nats_url) as connection:

        async def call(caller: int) -> None:
            answer = await connection.request(SUBJECT, PAYLOAD, timeout=10)
            assert answer.data == PAYLOAD

        yield call
