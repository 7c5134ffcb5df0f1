"""Connections that do nothing but cost memory: the part of uvicorn's HTTP protocol that has no deadlines of its own.

Whatever a connection waits for has an end. Headers must arrive within `header_timeout_s` of the first byte (or of the
connection), however they trickle; so must the rest of a body that nobody wants. A client that does not take what was
written to it for `write_timeout_s` is cut off, also when the connection is to be closed after that. In between, the
application waits with deadlines of its own (see `body_stream`), and uvicorn closes idle connections.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from hivewire_gateway.problems import PROBLEM_CONTENT_TYPE
from hivewire_gateway.security.settings import LimitSettings

_PROGRESS_BYTES = 65_536
_LINGER_S = 1.0


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 with deadlines for slow clients, and problem documents for what is no HTTP."""

    def __init__(self, *arguments: Any, limits: LimitSettings, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._request_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._unwritten_bytes = 0
        self._refused = False
        self._heard = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # So that the deadline for writing begins with the first byte that the client does not take.
        transport.set_write_buffer_limits(high=0)
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            # Of a machine that is gone nothing comes, not even the end of the connection.
            # Later than this process does, which also tells a client that is still there.
            timeout_ms = int(self._limits.write_timeout_s * 2000)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
        if len(self.connections) > self._limits.max_connections:
            self._turn_away()
        else:
            self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_request_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._heard = True
        super().data_received(data)
        self._watch_request()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_request_timer()
        self._stop_write_timer()
        self.transport.set_write_buffer_limits()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unwritten_bytes = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self._limits.write_timeout_s, self._check_progress)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        detail = "The request line and the headers are too large." if status == 431 else "The request is not HTTP/1.1."
        self._answer_and_close(status, detail)

    def _watch_request(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._stop_request_timer()
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(self._limits.header_timeout_s, self._request_too_slow)

    def _request_too_slow(self) -> None:
        self._request_timer = None
        if self.transport.is_closing():
            return
        if not self._heard:
            # Connected ahead of its first request, for which it would take the answer.
            self.transport.close()
            return
        self._answer_and_close(408, f"The request did not arrive within {self._limits.header_timeout_s:g} seconds.")

    def _answer_and_close(self, status: int, detail: str) -> None:
        # Once an answer has begun there is no place for another one.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self._response_started():
            self.transport.write(_raw_problem(status, detail))
        self.transport.close()

    def _response_started(self) -> bool:
        return self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete

    def _check_progress(self) -> None:
        self._write_timer = None
        now = self.transport.get_write_buffer_size()
        if self._unwritten_bytes - now < min(self._unwritten_bytes, _PROGRESS_BYTES):
            connection: socket.socket | None = self.transport.get_extra_info("socket")
            if connection is not None:
                # Else the kernel would go on to offer what waits there.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
            return
        self._unwritten_bytes = now
        self._write_timer = self.loop.call_later(self._limits.write_timeout_s, self._check_progress)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _turn_away(self) -> None:
        self._refused = True
        self.connections.discard(self)
        detail = f"The gateway has {self._limits.max_connections} connections already: come back later."
        self.transport.write(_raw_problem(503, detail, "Retry-After: 5\r\n"))
        # Closed with a delay: what the client has sent would reset the connection before it has read the answer.
        self.transport.write_eof()
        self._write_timer = self.loop.call_later(_LINGER_S, self.transport.abort)


def _raw_problem(status: int, detail: str, headers: str = "") -> bytes:
    phrase = HTTPStatus(status).phrase
    body = json.dumps({"type": "about:blank", "title": phrase, "status": status, "detail": detail}).encode()
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {PROBLEM_CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"{headers}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
