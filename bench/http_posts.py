"""Posts events over HTTP/1.1, one kept connection for each caller, at as little cost as will do.

A client library would cost more than what is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from secrets import token_hex

from bench.load import MAX_CALLERS, TEXT, Call

BODY = b'{"text":"%b"}' % TEXT.encode()
TOPIC_TYPE = "bench"

_PAUSE_S = 2.0


@asynccontextmanager
async def posts(address: str) -> AsyncIterator[Call]:
    """Give a call that posts one CloudEvent in binary mode to `/v1/events` and checks that it is answered with 202."""
    connections = [_Connection(address) for _ in range(MAX_CALLERS)]
    run, numbers = token_hex(4), count()

    async def call(caller: int) -> None:
        head = await connections[caller].answer(_request(address, f"{run}-{next(numbers)}", caller))
        assert head.startswith(b"HTTP/1.1 202 "), head

    try:
        yield call
    finally:
        for connection in connections:
            connection.close()


class _Connection:
    """A connection that is opened anew after a pause, in which the server may have closed it."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._used_at = -_PAUSE_S
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def answer(self, request: bytes) -> bytes:
        """Send a request and return the head of its answer."""
        if time.monotonic() - self._used_at > _PAUSE_S or self._writer is None:
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._host, int(self._port))
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        await self._reader.readexactly(_length(head))
        self._used_at = time.monotonic()
        return head

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


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
