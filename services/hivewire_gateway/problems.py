"""Errors as RFC 9457 problem documents: what is wrong, and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

PROBLEM_CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that gets an error. Raised anywhere below a route, it becomes the response.

    Args:
        detail: What is wrong with this request, and what to do; for the eyes of the client.
        headers: Further headers of the response, such as `Retry-After`.
        members: Further members of the document.
    """

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def document(self) -> dict[str, Any]:
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }

    def response(self) -> Response:
        return Response(
            # Details may quote what a client sent, lone surrogates included.
            json.dumps(self.document()).encode(),
            status_code=self.status,
            headers=self.headers,
            media_type=PROBLEM_CONTENT_TYPE,
        )
