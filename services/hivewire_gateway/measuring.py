"""Counts requests and WebSockets, as they look from outside: refusals of all layers below are counted too."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Literal

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hivewire_gateway.metrics import Metrics
from hivewire_gateway.route_templates import route_template

Mode = Literal["binary", "structured", "batch", "plain", "stream", "websocket"]


class MeasuringMiddleware:
    """Measures what the application does; goes around all other layers.

    Args:
        routes: Those of the application, which name the requests that were refused before they were routed.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = perf_counter()
        code, is_stream = 500, False
        metrics = self._metrics
        metrics.requests_in_flight.inc()

        async def noting_send(message: Message) -> None:
            nonlocal code, is_stream
            if message["type"] == "http.response.start":
                code = message["status"]
                if _is_event_stream(message):
                    is_stream = True
                    metrics.requests_in_flight.dec()
                    metrics.streams_open.inc()
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        finally:
            if is_stream:
                metrics.streams_open.dec()
            else:
                metrics.requests_in_flight.dec()
            metrics.answered(
                route=route_template(scope, self._routes),
                code=code,
                mode="stream" if is_stream else mode_of(scope),
                duration_s=None if is_stream else perf_counter() - begun,
            )

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        code = 403

        async def noting_send(message: Message) -> None:
            nonlocal code
            if message["type"] == "websocket.accept":
                code = 101
                self._metrics.websockets_open.inc()
            elif message["type"] == "websocket.http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        finally:
            if code == 101:
                self._metrics.websockets_open.dec()
            self._metrics.answered(
                route=route_template(scope, self._routes), code=code, mode="websocket", duration_s=None
            )


def mode_of(scope: Scope) -> Mode:
    """Return in which mode of the CloudEvents HTTP binding a request is, or `plain` (HTTP binding 1.0.2, 3)."""
    found: Mode = "plain"
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value.lower()
            if content_type.startswith(b"application/cloudevents-batch"):
                return "batch"
            if content_type.startswith(b"application/cloudevents"):
                return "structured"
        elif name == b"ce-specversion":
            found = "binary"
    return found


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
    )
