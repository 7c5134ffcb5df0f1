"""Opening a WebSocket to a gateway, with errors that say what to do."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from hivewire.exceptions import AccessDeniedError, BrokerUnavailableError
from hivewire.http.channel import ChannelClosedError
from hivewire.http.frames import HEADER_BYTES, PING_INTERVAL_S, PING_TIMEOUT_S, SUBPROTOCOL
from hivewire.http.options import Token

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = ["ClientSocket", "check_extra", "dial", "socket_url"]

CONNECT_TIMEOUT_S: Final = 10.0

_PATH = "/v1/workers"
_LARGEST_PAYLOAD = 64 * 1024 * 1024
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def check_extra() -> None:
    """Refuse to work without the package that this needs.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import websockets.asyncio.client  # noqa: F401
    except ImportError as error:
        raise ImportError("HttpAgentRuntime needs one more package: pip install 'hivewire[http]'") from error


def socket_url(url: str) -> str:
    """Return where workers connect at a gateway.

    Raises:
        ValueError: the address is not one of a gateway.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError(f"{url!r} is not the address of a gateway: write http://host:port or https://host")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("The address of a gateway has no user, query or fragment: a token goes into `token`")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{_PATH}"


async def dial(url: str, token: Token | None) -> ClientSocket:
    """Connect to the gateway at the address that `socket_url` returned.

    Raises:
        AccessDeniedError: the gateway refuses the token.
        BrokerUnavailableError: no gateway answers there in time, or it takes no workers now.
    """
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake, InvalidStatus

    headers = {}
    if token is not None:
        headers["Authorization"] = f"Bearer {token if isinstance(token, str) else token()}"
    try:
        connection = await connect(
            url,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # a NewType of str
            additional_headers=headers,
            compression=None,
            max_size=_LARGEST_PAYLOAD + HEADER_BYTES,
            open_timeout=CONNECT_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            close_timeout=2.0,
        )
    except InvalidStatus as error:
        status, why = error.response.status_code, _detail(bytes(error.response.body or b""))
        if status in (401, 403):
            raise AccessDeniedError(f"The gateway at {url} refused this worker ({status}): {why}") from error
        if status == 404:
            raise BrokerUnavailableError(
                f"There is a web server at {url}, and no gateway that takes workers (404): check the address"
            ) from error
        raise BrokerUnavailableError(f"The gateway at {url} takes no workers now ({status}): {why}") from error
    except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
        raise BrokerUnavailableError(f"No gateway answers at {url}: {error or type(error).__name__}") from error
    if connection.subprotocol != SUBPROTOCOL:
        await connection.close()
        raise BrokerUnavailableError(f"What answers at {url} is not a gateway: it does not speak {SUBPROTOCOL}")
    return ClientSocket(connection)


class ClientSocket:
    """Carries frames to and from the gateway. See `Transport`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, frame: bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._connection.send(frame)
        except ConnectionClosed as error:
            raise ChannelClosedError(str(error)) from error

    async def receive(self) -> bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            frame = await self._connection.recv()
        except ConnectionClosed as error:
            raise ChannelClosedError(str(error)) from error
        if isinstance(frame, str):
            raise ChannelClosedError("the gateway sent text, and frames are binary")
        return frame

    async def close(self) -> None:
        """Close the connection, within a few seconds."""
        try:
            async with asyncio.timeout(5.0):
                await self._connection.close()
        except TimeoutError:
            self._connection.transport.abort()


def _detail(body: bytes) -> str:
    """Return what an RFC 9457 problem document says."""
    try:
        document = json.loads(body)
        return str(document["detail"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace") or "it does not say why"
