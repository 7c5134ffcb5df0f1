"""A gateway as a process: listens, serves, and drains at the end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Self

import uvicorn

from hivewire.health import HealthServer, Readiness
from hivewire.relay import HEADER_BYTES, PING_INTERVAL_S, PING_TIMEOUT_S, RelayRuntime
from hivewire.telemetry import RequestTracer
from hivewire_gateway.app import create_app
from hivewire_gateway.draining import DrainingMiddleware
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.measuring import MeasuringMiddleware
from hivewire_gateway.open_streams import OpenStreams
from hivewire_gateway.security.connection_guard import GuardedProtocol
from hivewire_gateway.settings import Settings
from hivewire_gateway.tracing import TracingMiddleware

log = logging.getLogger("hivewire.gateway")

_STARTED_POLL_S = 0.01
_CANCEL_S = 1.0


class GatewayServer:
    """Serves HTTP for agents: `async with GatewayServer(relay, settings) as server`, with a relay that is connected.

    At the end it takes no new connections and refuses new requests; open requests, streams and WebSockets may finish
    for `drain_timeout_s`, and are cut off then. Health and metrics are told until all of that is over.

    Raises:
        OSError: an address can't be listened on; the text says which setting to change.
        ConfigurationError: a gateway can't be protected with these settings.
    """

    def __init__(self, relay: RelayRuntime, settings: Settings) -> None:
        self._settings = settings
        open_streams = OpenStreams(retry_s=settings.event_streams.retry_s)
        self._gateway = Gateway(relay=relay, settings=settings, open_streams=open_streams)
        app = create_app(self._gateway)
        self._traffic = DrainingMiddleware(app, self._gateway.draining)
        traced = TracingMiddleware(self._traffic, RequestTracer(relay.tracer_provider), app.routes)
        self._app = MeasuringMiddleware(traced, self._gateway.metrics, app.routes)
        self._open = AsyncExitStack()
        self._socket: socket.socket
        self._address: tuple[str, int]
        self._health: HealthServer
        self._server: _Server
        self._serving: asyncio.Task[None]

    @property
    def url(self) -> str:
        """Where it listens."""
        return _url(*self._address)

    @property
    def health_url(self) -> str:
        """Where health and metrics are."""
        return _url(self._settings.metrics_host, self._health.port)

    @property
    def ready(self) -> Readiness:
        """Whether requests should be sent here, and why not. May be read from any thread."""
        if self._gateway.draining.is_set():
            return Readiness(False, "the gateway drains")
        return self._gateway.relay.ready

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as stack:
            self._socket = stack.enter_context(_listening(settings.host, settings.port))
            self._address = self._socket.getsockname()[:2]
            self._health = stack.enter_context(self._health_server())
            config = uvicorn.Config(
                self._app,
                lifespan="off",
                log_config=None,
                # Below, it logs what clients send: queries of WebSockets, headers, a line for each malformed request.
                log_level="error",
                http=partial(GuardedProtocol, limits=settings.limits),  # type: ignore[arg-type]
                h11_max_incomplete_event_size=settings.limits.max_header_bytes,
                timeout_keep_alive=settings.limits.idle_timeout_s,
                access_log=False,
                # Nothing here depends on where a request came from, so nothing has to be believed about it.
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
                ws_max_size=self._gateway.relay.max_payload + HEADER_BYTES + 4,
                ws_per_message_deflate=False,
                ws_ping_interval=PING_INTERVAL_S,
                ws_ping_timeout=PING_TIMEOUT_S,
            )
            self._server = _Server(config)
            self._serving = asyncio.create_task(self._serve(), name="hivewire: gateway")
            stack.push_async_callback(self._drain)
            while not self._server.started:  # nothing signals it
                if self._serving.done():
                    self._serving.result()
                    raise OSError("the gateway did not start")
                await asyncio.sleep(_STARTED_POLL_S)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def wait_until_stopped(self) -> None:
        """Return when it serves no more; raise what made it fail."""
        await asyncio.shield(self._serving)

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._health.beat_on())
            await self._server.serve([self._socket])
            beating.cancel()

    async def _drain(self) -> None:
        """Stop in the order that loses nothing: tell, listen no more, let what is open finish, cut off what is left."""
        self._gateway.draining.set()
        self._gateway.open_streams.drain()
        self._server.stop_listening()
        try:
            async with asyncio.timeout(self._settings.drain_timeout_s):
                await self._traffic.wait_until_none_is_open()
        except TimeoutError:
            log.warning("%d requests did not finish in time and are cut off", self._traffic.open)
            self._server.cancel_requests()
        self._server.should_exit = True
        await self._serving

    def _health_server(self) -> HealthServer:
        host, port = self._settings.metrics_host, self._settings.metrics_port
        try:
            return HealthServer(
                host, port, readiness=lambda: self.ready, pages={"/metrics": self._gateway.metrics.page}
            )
        except OSError as error:
            raise OSError(
                f"health and metrics can't be served at {host} port {port} ({error.strerror or error}): choose another "
                "--metrics-host or --metrics-port"
            ) from error


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.servers: list[asyncio.base_events.Server] = []

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the process's own business."""
        yield

    def stop_listening(self) -> None:
        for server in self.servers:
            server.close()

    def cancel_requests(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        # It has cancelled what is left, and not waited for that.
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=_CANCEL_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off: an answer in two parts would wait for 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OSError(
            f"the gateway can't listen at {host} port {port} ({error.strerror or error}): choose another --host or "
            "--port"
        ) from error
    listening.setblocking(False)
    return listening


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
