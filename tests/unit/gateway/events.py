"""Requests that hold CloudEvents, and what the gateway reads in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hivewire_gateway.cloud_events import CloudEvent, ReadEvents, read_events
from hivewire_gateway.problems import Problem

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MINIMAL = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed"}

Headers = list[tuple[str, str]]


def read(headers: Headers, body: bytes = b"", *, max_events: int = 100) -> ReadEvents:
    return read_events(headers, body, max_events=max_events)


def binary(body: bytes = b"", content_type: str | None = None, **attributes: str) -> CloudEvent:
    """Read the minimal event with some further attributes from headers."""
    headers = [(f"ce-{name}", value) for name, value in {**MINIMAL, **attributes}.items()]
    if content_type is not None:
        headers.append(("Content-Type", content_type))
    (event,) = read(headers, body).events
    return event


def structured(**members: Any) -> CloudEvent:
    """Read the minimal event with some further members from JSON."""
    (event,) = read([("content-type", STRUCTURED)], json.dumps({**MINIMAL, **members}).encode()).events
    return event


def refused(status: int, headers: Headers, body: bytes = b"", **options: Any) -> str:
    """See that a request is refused, and return why."""
    with pytest.raises(Problem) as caught:
        read(headers, body, **options)
    assert caught.value.status == status, caught.value.detail
    return caught.value.detail


def refused_structured(**members: Any) -> str:
    """See that the minimal event with some further members is refused with 400, and return why."""
    event = {name: value for name, value in {**MINIMAL, **members}.items() if value != "(missing)"}
    return refused(400, [("content-type", STRUCTURED)], json.dumps(event).encode())


def refused_binary(status: int = 400, body: bytes = b"", content_type: str | None = None, **attributes: str) -> str:
    """See that the minimal event with some further attributes in headers is refused, and return why."""
    with pytest.raises(Problem) as caught:
        binary(body, content_type, **attributes)
    assert caught.value.status == status, caught.value.detail
    return caught.value.detail
