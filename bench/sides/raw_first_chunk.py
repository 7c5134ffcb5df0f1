"""nats-py alone: one message and the end, published to whoever asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats

from bench.addresses import Addresses
from bench.load import MAX_CALLERS, Call
from bench.sides.raw_chunks import END, PAYLOAD, SUBJECT, server

__all__ = ["client", "server"]


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    async with await nats.connect(addresses.nats_url) as connection:
        inboxes = [connection.new_inbox() for _ in range(MAX_CALLERS)]
        chunks = [(await connection.subscribe(inbox)).messages for inbox in inboxes]

        async def read(caller: int) -> None:
            await connection.publish(SUBJECT, b"1", reply=inboxes[caller])
            assert (await anext(chunks[caller])).data == PAYLOAD
            assert (await anext(chunks[caller])).data == END

        yield read
