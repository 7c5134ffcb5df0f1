"""How much goes on at once, and how fast it comes: beyond that the answer is 429 with `Retry-After`."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from hivewire_gateway.problems import Problem
from hivewire_gateway.security.buckets import Buckets
from hivewire_gateway.security.principals import principal_of
from hivewire_gateway.security.refusals import refuse
from hivewire_gateway.security.route_classes import RouteClass, route_class
from hivewire_gateway.security.settings import LimitSettings

_RETRY_AFTER_S = {"requests": 1, "streams": 10, "workers": 10}


class RateLimitMiddleware:
    """Lets each principal send as many requests of each class as its rates say."""

    def __init__(self, app: ASGIApp, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._buckets = Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            wait_s, rule = self._wait_s(scope)
            if wait_s > 0:
                problem = Problem(
                    429,
                    f"Too many requests of class {rule!r} for this principal: send fewer, or wait.",
                    headers={"Retry-After": str(math.ceil(wait_s))},
                )
                await refuse(problem, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _wait_s(self, scope: Scope) -> tuple[float, RouteClass]:
        principal = principal_of(HTTPConnection(scope))
        kind = _class_of(scope)
        rate = principal.rate_of(kind)
        if rate is None:
            return 0.0, kind
        key = (principal.name, kind)
        return self._buckets.take(key, per_s=rate.per_s, burst=rate.burst, now=self._clock()), kind


class CapacityMiddleware:
    """Bounds the requests that are worked on, the open streams and the workers, each apart from the others."""

    def __init__(self, app: ASGIApp, *, limits: LimitSettings) -> None:
        self._app = app
        self._limits = {
            "requests": limits.max_in_flight,
            "streams": limits.max_streams,
            "workers": limits.max_workers,
        }
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        kind = _class_of(scope)
        slot = kind if kind in ("streams", "workers") else "requests"
        if self._running[slot] >= self._limits[slot]:
            problem = Problem(
                429,
                f"The gateway has {self._limits[slot]} {slot} at once already: send it again a little later.",
                headers={"Retry-After": str(_RETRY_AFTER_S[slot])},
            )
            await refuse(problem, scope, receive, send)
            return
        self._running[slot] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running[slot] -= 1


def _class_of(scope: Scope) -> RouteClass:
    return route_class(scope, Headers(scope=scope).get("accept", ""))
