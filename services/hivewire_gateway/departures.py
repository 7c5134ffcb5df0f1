"""Clients that leave before they have their answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

ResultT = TypeVar("ResultT")


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


async def while_client_waits(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of some work, which is cancelled when the client disconnects. The body must have been read.

    Raises:
        ClientLeft: it did.
        BaseException: what the work raises; a `CancelledError` of its own too.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(until_client_leaves(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeft
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait((working, leaving))
        if not working.cancelled():
            working.exception()


async def until_client_leaves(receive: Receive) -> None:
    """Return when a client has disconnected. Only one task at a time may wait for that."""
    while (await receive())["type"] != "http.disconnect":
        pass
