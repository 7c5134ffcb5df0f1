"""Headers that no sensible client sends."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hivewire_gateway.problems import Problem
from hivewire_gateway.security.refusals import refuse
from hivewire_gateway.security.settings import LimitSettings


class HeaderLimitMiddleware:
    """Refuses too many or too large headers, and bodies that two parsers may see the end of in two places."""

    def __init__(self, app: ASGIApp, *, limits: LimitSettings) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            problem = self._problem(scope)
            if problem is not None:
                await refuse(problem, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        if len(lines) > self._limits.max_headers:
            return Problem(431, f"The request has more than {self._limits.max_headers} headers: send fewer.")
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in lines)
        if size > self._limits.max_header_bytes:
            return Problem(431, f"The headers have more than {self._limits.max_header_bytes} bytes: send smaller ones.")
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            detail = "The request has Content-Length and Transfer-Encoding (RFC 9112, 6.1): send one of them."
            return Problem(400, detail, headers={"Connection": "close"})
        return None
