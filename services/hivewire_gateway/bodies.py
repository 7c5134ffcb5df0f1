"""Request bodies, read and parsed within limits."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from hivewire_gateway.problems import Problem


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Return the body of a request.

    Raises:
        Problem: it is larger than `max_bytes`.
    """
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > max_bytes:
            raise Problem(413, f"The body is larger than {max_bytes} bytes: send a reference to the data instead.")
    return bytes(chunks)


def parse_json(body: bytes) -> Any:
    """Return what a body says as JSON.

    Raises:
        Problem: it is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"The body is not JSON: {error}.") from None
