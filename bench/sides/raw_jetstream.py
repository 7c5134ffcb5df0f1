"""nats-py alone: publishes to a stream and waits for each acknowledgement. What storing costs without HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from secrets import token_hex

from bench.addresses import Addresses
from bench.http_posts import BODY
from bench.load import Call
from bench.raw_stream import publishing


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    run, numbers = token_hex(4), count()
    async with publishing(addresses.nats_url, "bench_raw") as publish:

        async def call(caller: int) -> None:
            assert await publish(f"caller-{caller}", f"{run}-{next(numbers)}", BODY)

        yield call
