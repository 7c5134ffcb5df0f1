"""Stored events as CloudEvents in structured mode, and their ids as server-sent events."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any, Self

from hivewire.relay import PassedEvent
from hivewire_gateway.message_bodies import JSON, compact_json, json_value

_is_position = re.compile(r"([0-9a-f]{12})-([0-9]{1,18})").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPosition:
    """The place of an event in its stream. A stream that was made anew has another name."""

    stream: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.stream}-{self.sequence}"

    @classmethod
    def from_str(cls, text: str) -> Self:
        """Read the id of an event.

        Raises:
            ValueError: it is none.
        """
        match = _is_position(text)
        if match is None:
            raise ValueError(f"{text!r} is not the id of an event")
        return cls(stream=match[1], sequence=int(match[2]))


def event_document(event: PassedEvent) -> str:
    """Write an event as a CloudEvent in the JSON format (CloudEvents 1.0, JSON event format)."""
    document: dict[str, Any] = dict(event.attributes)
    document["specversion"] = "1.0"
    # When it was stored, for producers that don't say when it happened.
    document.setdefault("time", f"{event.stored_at:%Y-%m-%dT%H:%M:%S.%f}Z")
    document["datacontenttype"] = event.content_type
    media_type = event.content_type.partition(";")[0].strip().lower()
    if media_type == JSON or media_type.endswith("+json"):
        value = json_value(event.data)
        if value is not None:
            return f'{compact_json(document)[:-1]},"data":{value}}}'
    if media_type.startswith("text/"):
        try:
            return compact_json({**document, "data": event.data.decode()})
        except UnicodeDecodeError:
            pass
    return compact_json({**document, "data_base64": base64.b64encode(event.data).decode()})
