"""A Starlette application on uvicorn, as a side's own server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@asynccontextmanager
async def serving(endpoint: Callable[[Request], Awaitable[Response]], address: str) -> AsyncIterator[None]:
    """Serve one endpoint at `/v1/events`."""
    host, _, port = address.rpartition(":")
    app = Starlette(routes=[Route("/v1/events", endpoint, methods=["POST"])])
    server = _Server(uvicorn.Config(app, host=host, port=int(port), lifespan="off", log_config=None, access_log=False))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = True


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the process's own business."""
        yield
