"""How a process tells a supervisor over HTTP whether it is alive, and whether it takes messages.

It answers from threads of its own, so it does so while the event loop is blocked. That is no reason for a restart: a
handler may compute for a while. A loop that stands still for a minute is one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Self

from hivewire.cli.errors import CommandError
from hivewire.nats.readiness import Readiness

log = logging.getLogger("hivewire.health")

STUCK_S = 60.0
_BEAT_S = 1.0
_CLIENT_TIMEOUT_S = 5.0
_POLL_S = 0.05


class HealthServer:
    """Serves `/healthz` and `/readyz`, each 200 or 503 with a line that says why: `with HealthServer(...)`.

    Args:
        port: 0 stands for a free one; see `port`.
        readiness: Asked at each `/readyz`, in a thread.
        clock: Tells the seconds.

    Raises:
        CommandError: the address can't be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        readiness: Callable[[], Readiness],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._readiness = readiness
        self._clock = clock
        self._beat_at = clock()
        try:
            self._server = _Server(host, port, self._answer)
        except OSError as error:
            raise CommandError(
                f"the health can't be served at {host} port {port} ({error.strerror or error}): choose another "
                "--health-port or --health-host"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[_POLL_S], name="hivewire-health", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    async def beat_on(self) -> None:
        """Show that the event loop runs, until cancelled."""
        while True:
            self._beat_at = self._clock()
            await asyncio.sleep(_BEAT_S)

    def _answer(self, path: str) -> Readiness | None:
        match path.partition("?")[0]:
            case "/healthz":
                still_s = self._clock() - self._beat_at
                if still_s <= STUCK_S:
                    return Readiness(True)
                return Readiness(False, f"the event loop has stood still for {still_s:.0f} s: a handler blocks it")
            case "/readyz":
                return self._readiness()
            case _:
                return None


class _Server(ThreadingTCPServer):
    # Not `HTTPServer`, which asks the name service who it is.
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, answer: Callable[[str], Readiness | None]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answer = answer
        super().__init__((host, port), _Request)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = _CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        answer = self.server.answer(self.path)
        if answer is None:
            self.send_error(404)
            return
        body = f"{answer.reason or 'ok'}\n".encode()
        self.send_response(200 if answer else 503)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)
