"""nats-py alone: messages published to whoever asked, as fast as it goes. No types, no flow control, no guarantees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.msg import Msg

from bench.addresses import Addresses
from bench.load import CHUNKS, MAX_CALLERS, TEXT, Call

SUBJECT = "bench.raw.chunks"
PAYLOAD = TEXT.encode()
END = b""


@asynccontextmanager
async def server(addresses: Addresses) -> AsyncIterator[None]:
    async with await nats.connect(addresses.nats_url) as connection, asyncio.TaskGroup() as streams:

        async def stream(message: Msg) -> None:
            for _ in range(int(message.data)):
                await connection.publish(message.reply, PAYLOAD)
            await connection.publish(message.reply, END)

        async def start(message: Msg) -> None:
            streams.create_task(stream(message))

        await connection.subscribe(SUBJECT, cb=start)
        await connection.flush()
        yield


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    async with await nats.connect(addresses.nats_url) as connection:
        inboxes = [connection.new_inbox() for _ in range(MAX_CALLERS)]
        chunks = [(await connection.subscribe(inbox)).messages for inbox in inboxes]

        async def ask(caller: int) -> None:
            await connection.publish(SUBJECT, str(CHUNKS).encode(), reply=inboxes[caller])

        async def take(caller: int) -> None:
            chunk = await anext(chunks[caller])
            if chunk.data == END:
                await ask(caller)
                chunk = await anext(chunks[caller])
            assert chunk.data == PAYLOAD

        for caller in range(MAX_CALLERS):
            await ask(caller)
        yield take
