"""The web application of a gateway, put together."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.websockets import WebSocket

from hivewire_gateway.calls import Calls
from hivewire_gateway.documents import Documents
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.hooks.hooks import Hooks
from hivewire_gateway.ingestion import Ingestion
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.middleware import security_middleware
from hivewire_gateway.security.refusals import answer
from hivewire_gateway.topic_events import TopicEvents
from hivewire_gateway.workers.workers import Workers


def create_app(gateway: Gateway) -> Starlette:
    """Return the application that serves a gateway's one public port.

    Raises:
        ConfigurationError: a gateway can't be protected with these settings.
    """
    handlers: dict[Any, Any] = {Problem: _problem, HTTPException: _http_error}
    routes: list[BaseRoute] = [
        *Ingestion(gateway).routes(),
        *Hooks(gateway).routes(),
        *Calls(gateway).routes(),
        *TopicEvents(gateway).routes(),
        *Workers(gateway).routes(),
    ]
    app = Starlette(
        routes=[*routes, *Documents(gateway, routes).routes()],
        middleware=security_middleware(gateway.settings),
        exception_handlers=handlers,
    )
    # The sender of a WebHook must never be redirected.
    app.router.redirect_slashes = False
    return app


async def _problem(connection: Request | WebSocket, error: Exception) -> Response | None:
    assert isinstance(error, Problem)
    return await answer(connection, error)


async def _http_error(connection: Request | WebSocket, error: Exception) -> Response | None:
    assert isinstance(error, HTTPException)
    problem = Problem(error.status_code, f"{error.detail}: {connection.scope['path']}.", headers=error.headers)
    return await answer(connection, problem)
