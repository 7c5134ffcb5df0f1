"""nats-py alone, with a request within each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.msg import Msg

from bench.addresses import Addresses
from bench.load import Call
from bench.sides.raw_nats import PAYLOAD
from bench.sides.raw_nats import SUBJECT as INNER
from bench.sides.raw_nats import server as inner

__all__ = ["client", "inner", "server"]

SUBJECT = "bench.raw.outer"


@asynccontextmanager
async def server(addresses: Addresses) -> AsyncIterator[None]:
    async with await nats.connect(addresses.nats_url) as connection, asyncio.TaskGroup() as requests:

        async def ask(message: Msg) -> None:
            await message.respond((await connection.request(INNER, message.data, timeout=10)).data)

        async def start(message: Msg) -> None:
            requests.create_task(ask(message))

        await connection.subscribe(SUBJECT, cb=start)
        await connection.flush()
        yield


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    async with await nats.connect(addresses.nats_url) as connection:

        async def call(caller: int) -> None:
            answer = await connection.request(SUBJECT, PAYLOAD, timeout=10)
            assert answer.data == PAYLOAD

        yield call
