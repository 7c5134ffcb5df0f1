"""Names of routes, for metrics and logs: templates, so that there are few and nothing of a client is in them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import Scope

UNMATCHED = "unmatched"
"""The route of all requests that no route matches."""


def route_template(scope: Scope, routes: Sequence[BaseRoute]) -> str:
    """Return the path template of the route that a request is for, also when it was refused before it was routed."""
    route = scope.get("route") or next((route for route in routes if route.matches(scope)[0] is not Match.NONE), None)
    return route.path if isinstance(route, Route | WebSocketRoute) else UNMATCHED
