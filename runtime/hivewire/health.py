"""How a process tells a supervisor over HTTP whether it is alive, whether it takes messages, and what it counts.

It answers from threads of its own, so it does so while the event loop is blocked. That is no reason for a restart: a
handler may compute for a while. A loop that stands still for a minute is one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from hivewire.model.readiness import Readiness
from hivewire.telemetry.exposition import METRICS_CONTENT_TYPE, metrics_text

__all__ = ["HealthServer", "Page", "Readiness", "metrics_page"]

log = logging.getLogger("hivewire.health")

STUCK_S = 60.0
_BEAT_S = 1.0
_CLIENT_TIMEOUT_S = 5.0
_POLL_S = 0.05
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is served at an address."""

    body: bytes
    content_type: str = _TEXT
    status: int = 200


def metrics_page(apart: CollectorRegistry | None = None) -> Page:
    """Return all that this process counts, for Prometheus, and what is in a registry apart from that of the process.
    May be called from any thread."""
    return Page(body=metrics_text(apart), content_type=METRICS_CONTENT_TYPE)


class HealthServer:
    """Serves `/healthz` and `/readyz`, each 200 or 503 with a line that says why: `with HealthServer(...)`.

    Args:
        port: 0 stands for a free one; see `port`.
        readiness: Asked at each `/readyz`, in a thread.
        liveness: Asked at each `/healthz`, in a thread, while the event loop runs.
        pages: What else is served, by path. Asked in a thread too.
        clock: Tells the seconds.

    Raises:
        OSError: the address can't be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        readiness: Callable[[], Readiness],
        liveness: Callable[[], Readiness] = lambda: Readiness(True),
        pages: Mapping[str, Callable[[], Page]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._readiness = readiness
        self._liveness_beside = liveness
        self._pages = dict(pages or {})
        self._clock = clock
        self._beat_at = clock()
        self._server = _Server(host, port, self._answer)
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

    def _answer(self, path: str) -> Page | None:
        path = path.partition("?")[0]
        match path:
            case "/healthz":
                return _page_of(self._liveness())
            case "/readyz":
                return _page_of(self._readiness())
            case _:
                page = self._pages.get(path)
                return None if page is None else page()

    def _liveness(self) -> Readiness:
        still_s = self._clock() - self._beat_at
        if still_s <= STUCK_S:
            return self._liveness_beside()
        return Readiness(False, f"the event loop has stood still for {still_s:.0f} s: a handler blocks it")


def _page_of(readiness: Readiness) -> Page:
    return Page(body=f"{readiness.reason or 'ok'}\n".encode(), status=200 if readiness else 503)


class _Server(ThreadingTCPServer):
    # Not `HTTPServer`, which asks the name service who it is.
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, answer: Callable[[str], Page | None]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answer = answer
        super().__init__((host, port), _Request)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = _CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        page = self.server.answer(self.path)
        if page is None:
            self.send_error(404)
            return
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)
