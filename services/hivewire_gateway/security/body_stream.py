"""Bodies that come too slowly, compressed, or not to their end.

A request whose body was not read when its answer begins loses its connection after the answer, as the rest of the body
stands where the next request should begin. What is in flight meanwhile is read and thrown away, within narrow bounds: a
connection that is closed with unread data is reset, and the client would never see the answer (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hivewire_gateway.problems import Problem
from hivewire_gateway.security.settings import LimitSettings

_DISCARDED_BYTES = 65_536
_LINGER_BYTES = 1_048_576
_LINGER_S = 1.0
_INFLATED_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPace:
    """How fast a body must come."""

    timeout_s: float
    grace_s: float
    min_bytes_per_s: float

    def deadline(self, started: float, received_bytes: int) -> float:
        """Return until when more of a body must have come, of which some has."""
        return started + min(self.timeout_s, self.grace_s + received_bytes / self.min_bytes_per_s)


class BodyStreamMiddleware:
    """Guards how bodies are read. Whoever reads one too slow gets a `Problem` out of `receive`."""

    def __init__(self, app: ASGIApp, *, limits: LimitSettings) -> None:
        self._app = app
        self._accept_gzip = limits.accept_gzip
        self._pace = BodyPace(
            timeout_s=limits.body_timeout_s,
            grace_s=limits.body_grace_s,
            min_bytes_per_s=limits.min_body_bytes_per_s,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(Headers(scope=scope), receive, send, pace=self._pace, accept_gzip=self._accept_gzip)
        await self._app(scope, exchange.receive, exchange.send)
        await exchange.finish()


class _Exchange:
    def __init__(self, headers: Headers, receive: Receive, send: Send, *, pace: BodyPace, accept_gzip: bool) -> None:
        self._receive = receive
        self._send = send
        self._pace = pace
        self._started = asyncio.get_running_loop().time()
        self._received_bytes = 0
        length = headers.get("content-length")
        chunked = "transfer-encoding" in headers
        self._all_read = not chunked and length in (None, "0")
        self._may_keep = not chunked and length is not None and length.isdigit() and int(length) <= _DISCARDED_BYTES
        # Nothing of it is under way before somebody asks for it.
        self._waits_to_send = headers.get("expect", "").lower() == "100-continue"
        self._encoding = headers.get("content-encoding", "identity").strip().lower()
        self._accept_gzip = accept_gzip
        self._inflater: _Inflater | None = None
        self._lingers = False
        self._unfinished: Message | None = None

    async def receive(self) -> Message:
        """Return the next part of the body, or what comes after it.

        Raises:
            Problem: 408, it comes too slowly; 415, it is compressed in a way that is not taken; 400, it can't be
                unpacked.
        """
        if self._inflater is None and self._encoding not in ("identity", ""):
            self._inflater = self._new_inflater()
        if self._inflater is not None and self._inflater.has_more:
            return self._inflated(b"")
        if self._all_read:
            return await self._receive()
        message = await self._next_part()
        if message["type"] == "http.request" and self._inflater is not None:
            return self._inflated(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; the last one is held back while the rest of the body is in flight."""
        if message["type"] == "http.response.start":
            self._lingers = not self._all_read and not self._may_keep
            if self._lingers:
                MutableHeaders(scope=message)["Connection"] = "close"
        elif self._lingers and not message.get("more_body", False):
            self._unfinished = {**message, "body": b""}
            message = {**message, "more_body": True}
        await self._send(message)

    async def finish(self) -> None:
        """Send what was held back."""
        if self._unfinished is None:
            return
        if not self._waits_to_send:
            try:
                async with asyncio.timeout(_LINGER_S):
                    await self._discard()
            except TimeoutError:
                pass
        await self._send(self._unfinished)

    async def _next_part(self) -> Message:
        self._waits_to_send = False
        deadline = self._pace.deadline(self._started, self._received_bytes)
        try:
            async with asyncio.timeout_at(deadline):
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, "The body came too slowly: send it again, without pauses.") from None
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            self._all_read = not message.get("more_body", False)
        return message

    async def _discard(self) -> None:
        discarded = 0
        while discarded < _LINGER_BYTES:
            message = await self._receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                return
            discarded += len(message.get("body", b""))

    def _new_inflater(self) -> _Inflater:
        if self._encoding not in ("gzip", "x-gzip") or not self._accept_gzip:
            encodings = ["gzip", "identity"] if self._accept_gzip else ["identity"]
            raise Problem(
                415,
                f"A body of Content-Encoding {self._encoding!r} is not taken: send it as {' or '.join(encodings)}.",
                headers={"Accept-Encoding": ", ".join(encodings)},
            )
        return _Inflater()

    def _inflated(self, data: bytes) -> Message:
        assert self._inflater is not None
        body = self._inflater.feed(data, is_last=self._all_read)
        return {"type": "http.request", "body": body, "more_body": not self._all_read or self._inflater.has_more}


class _Inflater:
    """Unpacks gzip, never more than 64 KiB at once, so that whoever counts can stop it."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._rest = b""

    @property
    def has_more(self) -> bool:
        """Whether there is more without more data."""
        return bool(self._rest)

    def feed(self, data: bytes, *, is_last: bool) -> bytes:
        """Return some of what is in the data.

        Raises:
            Problem: it is no gzip, ends too early, or has something after its end.
        """
        try:
            inflated = self._stream.decompress(self._rest + data, _INFLATED_BYTES)
        except zlib.error:
            raise Problem(400, "The body is not gzip, as its Content-Encoding says.") from None
        self._rest = self._stream.unconsumed_tail
        if self._stream.unused_data:
            raise Problem(400, "The body goes on after the end of its gzip stream.")
        if is_last and not self._rest and not self._stream.eof:
            raise Problem(400, "The body ends before its gzip stream does.")
        return inflated
