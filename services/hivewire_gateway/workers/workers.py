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
        self._settings = gateway.settings.workers
        self._sessions: set[WorkerSession] = set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._sessions)

    def routes(self) -> list[WebSocketRoute]:
        return [WebSocketRoute("/v1/workers", self.join)]

    async def join(self, websocket: WebSocket) -> None:
        """Serve a worker for as long as it is connected."""
        if SUBPROTOCOL not in websocket.scope.get("subprotocols", ()):
            problem = Problem(400, f"A worker connects with the WebSocket subprotocol {SUBPROTOCOL}.")
            await websocket.send_denial_response(problem.response())
            return
        if self._draining or len(self._sessions) >= self._settings.max_workers:
            why = "This gateway ends" if self._draining else "This gateway has all the workers that it takes"
            problem = Problem(503, f"{why}: connect again, to another one.", headers={"Retry-After": "1"})
            await websocket.send_denial_response(problem.response())
            return
        await websocket.accept(subprotocol=SUBPROTOCOL)
        socket = WorkerSocket(websocket)
        session = WorkerSession(socket, self._relay, principal_of(websocket), self._settings)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            await socket.close(1011, "the session has ended")

    async def drain(self) -> None:
        """Take no more workers, and send those that are here to other gateways, after their work is handed over."""
        self._draining = True
        await asyncio.gather(*(session.drain() for session in self._sessions))
