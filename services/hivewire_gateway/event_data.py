"""The data of an event: its bytes, what they are, and as what message an agent gets them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from json import dumps
from typing import Any

from hivewire_gateway.bodies import parse_json
from hivewire_gateway.media_types import MediaType
from hivewire_gateway.problems import Problem

JSON_TYPE = "application/json"
_BYTES_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventData:
    """Data as it is stored.

    `value_type` is the type name of bare JSON, which agents without a class for it get: `dict`, `str`, `NoneType`, ...;
    it is empty when the data is not JSON. No data at all is the value None, unless a content type says that it is
    something else than JSON.
    """

    content_type: str
    payload: bytes
    value_type: str


def data_of_body(body: bytes, content_type: str | None) -> EventData:
    """Read data that came as bytes. Without a content type it is JSON if it can be.

    Raises:
        Problem: the content type is malformed, or says JSON and the bytes are not.
    """
    if content_type is None:
        try:
            return _json(body, JSON_TYPE)
        except Problem:
            return EventData(content_type=_BYTES_TYPE, payload=body, value_type="")
    media_type = _media_type(content_type)
    if not media_type.is_json:
        return EventData(content_type=content_type, payload=body, value_type="")
    if not media_type.is_utf8:
        raise Problem(415, "JSON has to be in UTF-8: leave the charset out.")
    return _json(body, content_type)


def data_of_members(event: Mapping[str, Any], content_type: str | None) -> EventData:
    """Read the members `data` and `data_base64` of an event in the JSON format (CloudEvents JSON format 1.0.2, 3.1.2).

    Raises:
        Problem: there are both, or what is there does not fit the content type.
    """
    encoded = event.get("data_base64")
    if encoded is not None:
        if "data" in event:
            raise Problem(400, "The event has both data and data_base64: leave one out.")
        return data_of_body(_from_base64(encoded), content_type)
    if "data" not in event:
        return data_of_body(b"", content_type)
    data, media_type = event["data"], _media_type(content_type or JSON_TYPE)
    if media_type.is_json:
        return EventData(
            content_type=content_type or JSON_TYPE, payload=_json_bytes(data), value_type=type(data).__name__
        )
    if not isinstance(data, str):
        raise Problem(400, "The data has to be a string, as datacontenttype does not say JSON.")
    if not media_type.is_utf8:
        raise Problem(400, "The data is of another charset than UTF-8: send it as data_base64.")
    return EventData(content_type=content_type or JSON_TYPE, payload=data.encode(), value_type="")


def _json(body: bytes, content_type: str) -> EventData:
    if not body:
        return EventData(content_type=content_type, payload=b"null", value_type="NoneType")
    return EventData(content_type=content_type, payload=body, value_type=type(parse_json(body)).__name__)


def _json_bytes(value: Any) -> bytes:
    # It was parsed strictly, so it has no number and no text that could not be written.
    return dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _from_base64(encoded: object) -> bytes:
    if isinstance(encoded, str):
        try:
            return b64decode(encoded, validate=True)
        except ValueError:
            pass
    raise Problem(400, "The member data_base64 is not a string in base64 (RFC 4648, 4).")


def _media_type(content_type: str) -> MediaType:
    try:
        return MediaType.parse(content_type)
    except ValueError as error:
        raise Problem(415, f"The content type is {error}.") from None
