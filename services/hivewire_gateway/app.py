"""The web application of a gateway, put together."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hivewire_gateway.calls import Calls
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.ingestion import Ingestion
from hivewire_gateway.problems import Problem


def create_app(gateway: Gateway) -> Starlette:
    """Return the application that serves a gateway's one public port."""
    app = Starlette(
        routes=[*Ingestion(gateway).routes(), *Calls(gateway).routes()],
        exception_handlers={Problem: _problem, HTTPException: _http_error},
    )
    # The sender of a WebHook must never be redirected.
    app.router.redirect_slashes = False
    return app


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Problem(
        error.status_code, f"{error.detail}: {request.method} {request.url.path}.", headers=error.headers
    ).response()
