"""CloudEvents 1.0 as they arrive over HTTP, by the HTTP protocol binding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from hivewire_gateway.bodies import parse_json
from hivewire_gateway.problems import Problem

_REQUIRED = ("specversion", "id", "type", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """An event. `attributes` are the optional ones and the extensions, by their names, without `datacontenttype`."""

    id: str
    type: str
    source: str
    content_type: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)


def read_events(headers: Mapping[str, str], body: bytes) -> list[CloudEvent]:
    """Read the events of a request; header names are lower-case.

    Raises:
        Problem: it holds none, or one that the specification does not allow.
    """
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    missing = [name for name in _REQUIRED if name not in attributes]
    if missing:
        raise Problem(400, f"Not a CloudEvent: {', '.join(missing)} missing.")
    parse_json(body)
    return [
        CloudEvent(
            id=attributes.pop("id"),
            type=attributes.pop("type"),
            source=attributes.pop("source"),
            content_type=headers.get("content-type", "application/json"),
            data=body,
            attributes={name: value for name, value in attributes.items() if name != "specversion"},
        )
    ]
