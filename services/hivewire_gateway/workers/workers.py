"""`/v1/workers`: where workers join."""

from __future__ import annotations

import asyncio

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from hivewire.relay import SUBPROTOCOL
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.principals import principal_of
from hivewire_gateway.workers.session import WorkerSession
from hivewire_gateway.workers.socket import WorkerSocket

__all__ = ["Workers"]


class Workers:
    """The workers of one gateway process."""

    def __init__(self, gateway: Gateway) -> None:
        self._relay = gateway.relay
        self._settings = gateway.settings
        self._draining = gateway.draining

    def routes(self) -> list[WebSocketRoute]:
        return [WebSocketRoute("/v1/workers", self.join)]

    async def join(self, websocket: WebSocket) -> None:
        """Serve a worker for as long as it is connected, or until this gateway drains."""
        if SUBPROTOCOL not in websocket.scope.get("subprotocols", ()):
            raise Problem(400, f"A worker connects with the WebSocket subprotocol {SUBPROTOCOL}.")
        await websocket.accept(subprotocol=SUBPROTOCOL)
        socket = WorkerSocket(websocket)
        session = WorkerSession(socket, self._relay, principal_of(websocket), self._settings.workers)
        try:
            async with asyncio.TaskGroup() as group:
                leaving = group.create_task(self._drain(session), name="hivewire: drain of a worker")
                await session.run()
                leaving.cancel()
        finally:
            await socket.close(1011, "the session has ended")

    async def _drain(self, session: WorkerSession) -> None:
        await self._draining.wait()
        await session.drain(self._settings.drain_timeout_s)
