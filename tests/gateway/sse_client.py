"""A client of server-sent events, read as a browser reads them (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Seen:
    """An event as a browser would dispatch it. `fields` are those that it passes over."""

    event: str
    data: str
    id: str
    fields: dict[str, str]


async def events_of(response: httpx.Response) -> AsyncIterator[Seen]:
    """Yield the events of a response as they come."""
    assert response.headers["content-type"].startswith("text/event-stream")
    id, fields, data = "", {}, []
    async for line in response.aiter_lines():
        if line.startswith(":"):
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line:
            if name == "data":
                data.append(value)
            elif name == "id":
                id = value
            else:
                fields[name] = value
            continue
        if data:
            yield Seen(fields.pop("event", "message"), "\n".join(data), id, fields)
        fields, data = {}, []


async def collected(http: httpx.AsyncClient, method: str, url: str, **options: Any) -> list[Seen]:
    """Return all events of a stream that ends by itself."""
    async with http.stream(method, url, **options) as response:
        if response.status_code != 200:
            await response.aread()
            raise AssertionError(f"{response.status_code} {response.text}")
        return [each async for each in events_of(response)]
