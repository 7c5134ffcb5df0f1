"""CloudEvents 1.0 as they arrive over HTTP: in binary, structured and batched mode (HTTP protocol binding 1.0.2).

Strict: what the specification does not allow is refused, and nothing is made up that an event lacks. A missing `id`
above all must not be replaced, as a repeated request would then store the event twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hivewire_gateway.bodies import parse_json
from hivewire_gateway.event_attributes import check_attributes, text_of
from hivewire_gateway.event_data import EventData, data_of_body, data_of_members
from hivewire_gateway.header_values import decoded
from hivewire_gateway.media_types import MediaType
from hivewire_gateway.problems import Problem

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_ACCEPT = {"Accept": f"{STRUCTURED}, {BATCH}"}
_TEXT_ATTRIBUTES = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """An event. `attributes` are the optional ones and the extensions, as canonical text by their names, without
    `datacontenttype` and `dataschema`."""

    id: str
    type: str
    source: str
    data: EventData
    data_schema: str = ""
    attributes: Mapping[str, str]

    @property
    def type_name(self) -> str:
        """The name of the message type: the schema, else that of a bare JSON value; empty for other data."""
        return self.data_schema or self.data.value_type


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEvents:
    """What a request holds."""

    mode: Literal["binary", "structured", "batch"]
    events: tuple[CloudEvent, ...]


def read_events(headers: Iterable[tuple[str, str]], body: bytes, *, max_events: int) -> ReadEvents:
    """Read the events of a request. Its content type decides the mode, before anything else is looked at.

    Args:
        headers: All headers, also repeated ones.
        max_events: How many a batch may hold.

    Raises:
        Problem: there are none, too many, or one that the specification does not allow.
    """
    pairs = [(name.lower(), value) for name, value in headers]
    content_types = [value.strip() for name, value in pairs if name == "content-type"]
    if len(content_types) > 1:
        raise Problem(400, "There are several content types: send one.")
    content_type = content_types[0] if content_types else None
    if content_type is not None and content_type.lower().startswith("application/cloudevents"):
        if _event_format(content_type) == STRUCTURED:
            return ReadEvents(mode="structured", events=(_of_json(parse_json(body)),))
        return ReadEvents(mode="batch", events=_batch(parse_json(body), max_events))
    attributes = [(name[3:], value) for name, value in pairs if name.startswith("ce-")]
    if not attributes:
        raise Problem(
            415,
            f"Not a CloudEvent: send one as {STRUCTURED}, several as {BATCH}, or its attributes in headers such as "
            "ce-id. Other JSON can be posted to /v1/topics/{type}/{source}.",
            headers=_ACCEPT,
        )
    return ReadEvents(mode="binary", events=(_of_headers(attributes, content_type, body),))


def _event_format(content_type: str) -> str:
    try:
        media_type = MediaType.parse(content_type)
    except ValueError as error:
        raise Problem(415, f"The content type is {error}.", headers=_ACCEPT) from None
    if media_type.essence not in (STRUCTURED, BATCH):
        raise Problem(415, f"Send CloudEvents as {STRUCTURED} or {BATCH}.", headers=_ACCEPT)
    if not media_type.is_utf8:
        raise Problem(415, "CloudEvents in JSON have to be in UTF-8: leave the charset out.", headers=_ACCEPT)
    return media_type.essence


def _batch(events: Any, max_events: int) -> tuple[CloudEvent, ...]:
    if not isinstance(events, list):
        raise Problem(400, f"A batch is a JSON array of events; a single one is sent as {STRUCTURED}.")
    if len(events) > max_events:
        raise Problem(413, f"The batch holds {len(events)} events and may hold {max_events}: send several.")
    read = []
    for index, event in enumerate(events):
        try:
            read.append(_of_json(event))
        except Problem as problem:
            text = f"Nothing was stored, as event {index} of the batch is not valid. {problem.detail}"
            raise Problem(problem.status, text, headers=problem.headers, index=index) from None
    return tuple(read)


def _of_json(event: Any) -> CloudEvent:
    if not isinstance(event, dict):
        raise Problem(400, "A CloudEvent in JSON is an object.")
    attributes = {}
    for name, value in event.items():
        if value is None or name in ("data", "data_base64"):
            continue
        if name in _TEXT_ATTRIBUTES and not isinstance(value, str):
            raise Problem(400, f"The attribute {name!r} has to be a string.")
        try:
            attributes[name] = text_of(value)
        except ValueError as error:
            raise Problem(400, f"The attribute {name[:40]!a} {error}.") from None
    _check(attributes)
    return _event(attributes, data_of_members(event, attributes.pop("datacontenttype", None)))


def _of_headers(pairs: Iterable[tuple[str, str]], content_type: str | None, body: bytes) -> CloudEvent:
    attributes: dict[str, str] = {}
    for name, value in pairs:
        if name == "datacontenttype":
            raise Problem(400, "The header ce-datacontenttype is not allowed: Content-Type says what the data is.")
        if name in attributes:
            raise Problem(400, f"The header {f'ce-{name}'[:40]!a} is there several times.")
        try:
            attributes[name] = decoded(value)
        except ValueError as error:
            raise Problem(400, f"The header {f'ce-{name}'[:40]!a} {error}.") from None
    _check(attributes)
    return _event(attributes, data_of_body(body, content_type))


def _check(attributes: Mapping[str, str]) -> None:
    try:
        check_attributes(attributes)
    except ValueError as error:
        raise Problem(400, str(error)) from None


def _event(attributes: dict[str, str], data: EventData) -> CloudEvent:
    del attributes["specversion"]
    return CloudEvent(
        id=attributes.pop("id"),
        type=attributes.pop("type"),
        source=attributes.pop("source"),
        data_schema=attributes.pop("dataschema", ""),
        data=data,
        attributes=attributes,
    )
