"""Kinds of requests that have limits of their own."""

from __future__ import annotations

from typing import Literal, get_args

from starlette.types import Scope

RouteClass = Literal["events", "calls", "streams", "workers", "other"]
ROUTE_CLASSES: tuple[RouteClass, ...] = get_args(RouteClass)

PUBLIC_PREFIX = "/v1/hooks/"


def route_class(scope: Scope, accept: str = "") -> RouteClass:
    """Return the class of an HTTP request or a WebSocket.

    What may stay open for long is of `streams`. A request that asks for a stream and gets none has moved itself to
    another limit, and that is all.
    """
    if scope["type"] == "websocket":
        return "workers"
    path: str = scope["path"]
    if "text/event-stream" in accept.lower():
        return "streams"
    if path.startswith(("/v1/topics/", "/v1/streams/")) and scope["method"] == "GET":
        return "streams"
    if path.startswith(("/v1/events", "/v1/topics/", PUBLIC_PREFIX)):
        return "events"
    if path.startswith(("/v1/agents/", "/v1/streams/")):
        return "calls"
    return "other"


def is_public(scope: Scope) -> bool:
    """Tell whether a request needs no bearer token.

    Webhooks of others are signed instead; `OPTIONS` shows nothing, and those who ask by it have no token to show
    (CloudEvents, HTTP 1.1 Web Hooks, 4: the handshake is not authorized; Fetch: nor are preflight requests). The docs
    page is the same for everybody, and gets what it shows with a token.
    """
    if scope["type"] != "http":
        return False
    path: str = scope["path"]
    is_page = path == "/docs" or path.startswith("/docs/")
    return scope["method"] == "OPTIONS" or path.startswith(PUBLIC_PREFIX) or is_page
