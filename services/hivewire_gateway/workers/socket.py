"""The WebSocket of one worker, as what carries frames."""

from __future__ import annotations

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from hivewire.relay import ChannelClosedError

__all__ = ["GOING_AWAY", "WorkerSocket"]

GOING_AWAY = 1001
"""The code of a close by a gateway that ends: another one, or its successor, takes the worker up."""


class WorkerSocket:
    """Carries frames to and from a worker. See `Transport`."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send(self, frame: bytes) -> None:
        try:
            await self._websocket.send_bytes(frame)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ChannelClosedError("the worker's connection has ended") from error

    async def receive(self) -> bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise ChannelClosedError(f"the worker's connection has ended (code {message.get('code')})")
        data = message.get("bytes")
        if data is None:
            raise ChannelClosedError("the worker sent text, and frames are binary")
        return bytes(data)

    async def close(self, code: int, reason: str) -> None:
        """Close the connection, if it is open."""
        if self._websocket.application_state is WebSocketState.CONNECTED:
            try:
                await self._websocket.close(code, reason)
            except (WebSocketDisconnect, RuntimeError):
                pass
