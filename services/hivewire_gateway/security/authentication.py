"""Who sent a request: the bearer token is looked up (RFC 6750), or the request is anonymous.

A token is never logged. One in the query is taken out of it before anything else sees the request.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hivewire_gateway.problems import Problem
from hivewire_gateway.security.authenticator import Authenticator
from hivewire_gateway.security.origins import check_anonymous
from hivewire_gateway.security.principals import NOTHING, Principal
from hivewire_gateway.security.refusals import refuse
from hivewire_gateway.security.route_classes import is_public
from hivewire_gateway.security.settings import SecuritySettings

_PUBLIC = Principal(name="-", permissions=NOTHING)


class AuthenticationMiddleware:
    """Puts the principal of a request on `request.state.principal`, or refuses the request."""

    def __init__(
        self, app: ASGIApp, *, authenticator: Authenticator, settings: SecuritySettings, on_loopback: bool
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._settings = settings
        self._on_loopback = on_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        query_tokens = _take_query_tokens(scope)
        try:
            principal = await self._principal(scope, query_tokens)
        except Problem as problem:
            await refuse(problem, scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)

    async def _principal(self, scope: Scope, query_tokens: list[str]) -> Principal:
        if is_public(scope):
            return _PUBLIC
        headers = Headers(scope=scope)
        token = _bearer_token(headers, query_tokens, query_allowed=self._settings.query_tokens)
        if token is not None:
            return await self._authenticator.with_token(token)
        anonymous = self._authenticator.anonymous()
        check_anonymous(
            headers,
            method=scope.get("method", "GET"),
            loopback_only=self._on_loopback,
            hosts=self._settings.hosts,
            cors_origins=self._settings.cors_origins,
        )
        return anonymous


def _take_query_tokens(scope: Scope) -> list[str]:
    query: bytes = scope["query_string"]
    if b"access_token" not in query and b"%" not in query:
        return []
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    tokens = [value for name, value in pairs if name == "access_token"]
    if tokens:
        rest = [(name, value) for name, value in pairs if name != "access_token"]
        scope["query_string"] = urlencode(rest, encoding="latin-1").encode("ascii")
    return tokens


def _bearer_token(headers: Headers, query_tokens: list[str], *, query_allowed: bool) -> str | None:
    sent = headers.getlist("authorization")
    if query_tokens and not query_allowed:
        raise _malformed("Tokens in the query are not taken here: send it as Authorization: Bearer.", status=401)
    if len(sent) + len(query_tokens) > 1:
        raise _malformed("The request has several tokens: send one.", status=400)
    if query_tokens:
        return query_tokens[0]
    if not sent:
        return None
    scheme, _, token = sent[0].partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _malformed("The Authorization header is not of the scheme Bearer with a token.", status=401)
    return token.strip()


def _malformed(detail: str, *, status: int) -> Problem:
    headers: dict[str, Any] = {"WWW-Authenticate": 'Bearer realm="hivewire", error="invalid_request"'}
    return Problem(status, detail, headers=headers)
