"""Documents about the gateway: OpenAPI for programs at `/openapi.json`, and a page for people at `/docs`.

The page needs nothing from elsewhere. What it shows of the document it shows as text, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hivewire_gateway.gateway import Gateway
from hivewire_gateway.message_bodies import JSON, compact_json
from hivewire_gateway.openapi import openapi_document
from hivewire_gateway.problems import Problem

_PAGE = Path(__file__).with_name("docs_page")
_PAGE_FILES = {
    "": ("index.html", "text/html"),
    "docs.js": ("docs.js", "text/javascript"),
    "docs.css": ("docs.css", "text/css"),
}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Documents:
    """Describes the routes that it is given, and the agent types of the registry as they are now."""

    def __init__(self, gateway: Gateway, described: Sequence[BaseRoute]) -> None:
        self._relay = gateway.relay
        self._routes = _routes_of([*described, *self.routes()])
        self._made_for: int | None = None
        self._document = b""
        self._tag = ""

    def routes(self) -> list[Route]:
        return [
            Route("/openapi.json", self.get_openapi, methods=["GET"]),
            Route("/docs", self.get_page, methods=["GET"]),
            Route("/docs/{file}", self.get_page, methods=["GET"]),
        ]

    async def get_openapi(self, request: Request) -> Response:
        """Return the document, which is made anew when the registry has changed."""
        changes = self._relay.registry_changes
        if changes != self._made_for:
            document: dict[str, Any] = openapi_document(self._relay.agent_types(), self._routes)
            self._document = compact_json(document).encode(errors="replace")
            self._tag = f'"{sha256(self._document).hexdigest()[:32]}"'
            self._made_for = changes
        headers = {"ETag": self._tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        if self._tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self._document, media_type=JSON, headers=headers)

    async def get_page(self, request: Request) -> Response:
        """Return the page, or one of its files."""
        found = _PAGE_FILES.get(request.path_params.get("file", ""))
        if found is None:
            raise Problem(404, "There is no such file.")
        name, media_type = found
        return Response((_PAGE / name).read_bytes(), media_type=media_type, headers=_PAGE_HEADERS)


def _routes_of(routes: Sequence[BaseRoute]) -> frozenset[tuple[str, str]]:
    return frozenset(
        (method, route.path_format) for route in routes if isinstance(route, Route) for method in route.methods or ()
    )
