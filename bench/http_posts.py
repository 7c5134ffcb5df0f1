"""Posts events over HTTP/1.1, one kept connection for each caller, at as little cost as will do.

A client library would cost more than what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from secrets import token_hex

from bench.load import MAX_CALLERS, TEXT, Call

BODY = b'{"text":"%b"}' % TEXT.encode()
TOPIC_TYPE = "bench"


@asynccontextmanager
async def posts(address: str) -> AsyncIterator[Call]:
    """Give a call that posts one CloudEvent in binary mode to `/v1/events` and checks that it is answered with 202."""
    host, _, port = address.rpartition(":")
    connections = [await asyncio.open_connection(host, int(port)) for _ in range(MAX_CALLERS)]
    run, numbers = token_hex(4), count()

    async def call(caller: int) -> None:
        reader, writer = connections[caller]
        writer.write(_request(address, f"{run}-{next(numbers)}", caller))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(_length(head))
        assert head.startswith(b"HTTP/1.1 202 "), head

    try:
        yield call
    finally:
        for _, writer in connections:
            writer.close()


def _request(address: str, event_id: str, caller: int) -> bytes:
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\nce-specversion: 1.0\r\nce-id: {event_id}\r\nce-type: {TOPIC_TYPE}\r\n"
        f"ce-source: caller-{caller}\r\n\r\n"
    )
    return head.encode() + BODY


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise AssertionError(f"no length: {head!r}")
