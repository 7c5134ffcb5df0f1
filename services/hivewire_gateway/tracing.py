"""A span for each request, as it looks from outside: refusals of all layers below are in it too."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hivewire.relay import passing_on
from hivewire.telemetry import RequestTracer
from hivewire_gateway.route_templates import UNMATCHED, route_template
from hivewire_gateway.trace_context import trace_context


class TracingMiddleware:
    """Opens a span for each request, if somebody records, as a child of the client's; else it only carries the client's
    trace on. A WebSocket has none: it stays for hours, and what comes over it has traces of its own.

    Args:
        routes: Those of the application, which name the spans.
    """

    def __init__(self, app: ASGIApp, tracer: RequestTracer, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._tracer = tracer
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = trace_context(Headers(scope=scope))
        if self._tracer.records:
            await self._traced(scope, receive, send, client)
            return
        with passing_on(client):
            await self._app(scope, receive, send)

    async def _traced(self, scope: Scope, receive: Receive, send: Send, client: dict[str, str]) -> None:
        route = route_template(scope, self._routes)
        with self._tracer.serving(
            scope["method"], None if route == UNMATCHED else route, scheme=scope["scheme"], parent=client
        ) as served:

            async def noting_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    served.answered(message["status"])
                await send(message)

            await self._app(scope, receive, noting_send)
