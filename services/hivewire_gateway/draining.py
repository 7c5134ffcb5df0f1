"""The end of a gateway: what is open finishes, and what comes now is sent elsewhere."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hivewire_gateway.problems import Problem
from hivewire_gateway.security.refusals import refuse

_CLOSE = (b"connection", b"close")


class DrainingMiddleware:
    """Knows what is open. Once `draining` is set, it refuses new requests and closes each connection after its answer.

    A request that is cancelled because the time is up gets an answer that says so.
    """

    def __init__(self, app: ASGIApp, draining: asyncio.Event) -> None:
        self._app = app
        self._draining = draining
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    @property
    def open(self) -> int:
        """How many requests, streams and WebSockets are open."""
        return self._open

    async def wait_until_none_is_open(self) -> None:
        await self._none_open.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._open += 1
        self._none_open.clear()
        try:
            if scope["type"] == "http":
                await self._http(scope, receive, send)
            elif scope["type"] == "websocket" and self._draining.is_set():
                await refuse(_refusal(), scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def closing_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self._draining.is_set() and _CLOSE not in message["headers"]:
                    message["headers"] = [*message["headers"], _CLOSE]
            await send(message)

        if self._draining.is_set():
            await refuse(_refusal(), scope, receive, closing_send)
            return
        try:
            await self._app(scope, receive, closing_send)
        except asyncio.CancelledError:
            if started or not self._draining.is_set():
                raise
            await refuse(_cut_off(), scope, receive, closing_send)


def _refusal() -> Problem:
    return Problem(
        503, "This gateway is about to stop: send the request again, to another one.", headers={"Retry-After": "1"}
    )


def _cut_off() -> Problem:
    return Problem(
        503,
        "This gateway stopped before the request was done, so it may have taken effect or not: send it again if that "
        "does no harm.",
        headers={"Retry-After": "1"},
    )
