"""One line in the log for each request: method, route, status, principal, time. Never a query, a header or a body.

What a route raises unexpectedly ends here too: the client gets a problem document, and the log gets the kind of the
error and where it happened, without its text, which may quote a body.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hivewire_gateway.problems import Problem
from hivewire_gateway.route_templates import route_template
from hivewire_gateway.security.refusals import refuse

log = logging.getLogger("hivewire.gateway.access")

_CLIENT_LEFT = 499
_SWITCHING_PROTOCOLS = 101


class AccessLogMiddleware:
    """Logs requests that were refused or failed, and with `everything` all of them, as info, otherwise as debug."""

    def __init__(self, app: ASGIApp, *, everything: bool, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._level = logging.INFO if everything else logging.DEBUG
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began = self._clock()
        # For an answer that never began: the client was faster.
        status = _CLIENT_LEFT

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = _SWITCHING_PROTOCOLS
            await send(message)

        try:
            await self._app(scope, receive, observe)
        except ClientDisconnect:
            pass
        except Exception as error:
            log.error("%s failed: %s\n%s", _request(scope), type(error).__name__, _where(error))
            if status != _CLIENT_LEFT:
                raise _AlreadyLoggedError from None
            await refuse(Problem(500, "The gateway failed. Its log says where."), scope, receive, observe)
        finally:
            level = self._level if status < 400 or status == _CLIENT_LEFT else logging.INFO
            if log.isEnabledFor(level):
                duration_s = self._clock() - began
                fields = {"status": status, "principal": _principal_name(scope), "duration_s": round(duration_s, 6)}
                text = f"{_request(scope)} {status} {fields['principal']} {duration_s * 1000:.1f} ms"
                log.log(level, "%s", text, extra={**_fields(scope), **fields})


class _AlreadyLoggedError(Exception):
    """Ends an answer that had begun; the server closes its connection."""


def _fields(scope: Scope) -> dict[str, str]:
    return {"method": scope.get("method", "WEBSOCKET"), "route": route_template(scope, scope["app"].routes)}


def _request(scope: Scope) -> str:
    return " ".join(_fields(scope).values())


def _principal_name(scope: Scope) -> str:
    principal: Any = scope.get("state", {}).get("principal")
    return "-" if principal is None else str(principal.name)


def _where(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)).rstrip()
