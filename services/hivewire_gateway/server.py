"""A gateway as a process: listens, serves, and drains at the end."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from types import TracebackType
from typing import Self

import uvicorn

from hivewire.relay import RelayRuntime
from hivewire_gateway.app import create_app
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.open_streams import OpenStreams
from hivewire_gateway.security.connection_guard import GuardedProtocol
from hivewire_gateway.settings import Settings

log = logging.getLogger("hivewire.gateway")

_STARTED_POLL_S = 0.01


class GatewayServer:
    """Serves HTTP for agents: `async with GatewayServer(relay, settings) as server`, with a relay that is connected.

    At the end it takes no new connections and lets open requests finish, for `drain_timeout_s` at the most.

    Raises:
        OSError: the address can't be listened on.
        ConfigurationError: a gateway can't be protected with these settings.
    """

    def __init__(self, relay: RelayRuntime, settings: Settings) -> None:
        self._settings = settings
        open_streams = OpenStreams(retry_s=settings.event_streams.retry_s)
        self._gateway = Gateway(relay=relay, settings=settings, open_streams=open_streams)
        self._app = create_app(self._gateway)
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None
        self._server: uvicorn.Server

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        limits = self._settings.limits
        config = uvicorn.Config(
            self._app,
            host=self._settings.host,
            port=self._settings.port,
            lifespan="off",
            log_config=None,
            # It would log the query of a WebSocket as info, and all headers as debug.
            log_level="warning",
            http=partial(GuardedProtocol, limits=limits),  # type: ignore[arg-type]
            h11_max_incomplete_event_size=limits.max_header_bytes,
            timeout_keep_alive=limits.idle_timeout_s,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(self._settings.drain_timeout_s),
        )
        self._socket = _listening(self._settings.host, self._settings.port)
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([self._socket]), name="hivewire: gateway")
        while not self._server.started:  # nothing signals it
            if self._serving.done():
                self._serving.result()
                raise OSError("the gateway did not start")
            await asyncio.sleep(_STARTED_POLL_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gateway.open_streams.drain()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """Signals are the process's own business."""


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family)
    listening.setblocking(False)
    return listening
