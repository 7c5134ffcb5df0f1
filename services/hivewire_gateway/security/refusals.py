"""Problems as answers of middleware, to HTTP requests and to WebSockets that are not accepted."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from hivewire_gateway.problems import Problem

_POLICY_VIOLATION = 1008
_REASON_BYTES = 123


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request or a WebSocket handshake with a problem document."""
    if scope["type"] == "websocket":
        await answer_websocket(WebSocket(scope, receive, send), problem)
    else:
        await problem.response()(scope, receive, send)


async def answer(connection: Request | WebSocket, problem: Problem) -> Response | None:
    """Return the response to a request, or answer a WebSocket: what an exception handler does."""
    if isinstance(connection, WebSocket):
        await answer_websocket(connection, problem)
        return None
    return problem.response()


async def answer_websocket(websocket: WebSocket, problem: Problem) -> None:
    """Refuse a WebSocket; one that is open already is closed, with the detail as the reason."""
    if websocket.client_state is WebSocketState.CONNECTING:
        await websocket.receive()
    if websocket.application_state is WebSocketState.CONNECTING:
        await websocket.send_denial_response(problem.response())
    elif websocket.application_state is WebSocketState.CONNECTED:
        reason = problem.detail.encode()[:_REASON_BYTES].decode("utf-8", "ignore")
        await websocket.close(_POLICY_VIOLATION, reason)
