"""Messages as bodies of requests and responses: what type they have, and how they look within JSON."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from hivewire.relay import Encoded
from hivewire_gateway.bodies import parse_json
from hivewire_gateway.media_types import MediaType
from hivewire_gateway.problems import Problem

MESSAGE_TYPE_HEADER = "Hivewire-Message-Type"
TIMEOUT_HEADER = "Hivewire-Timeout"

JSON = "application/json"

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_MAX_TYPE_CHARS = 512
_is_printable = re.compile(r"[^\x00-\x1f\x7f]*").fullmatch
_is_seconds = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?").fullmatch


def message_of(headers: Mapping[str, str], body: bytes) -> Encoded:
    """Read the message of a request: its type is named by a header, by the parameter `type` of the content type, or, as
    JSON, it is that of its value.

    Raises:
        Problem: the body is no message, or nothing says of which type.
    """
    try:
        media_type = MediaType.parse(headers.get("content-type", JSON))
    except ValueError as error:
        raise Problem(400, f"The Content-Type is {error}.") from None
    type_name = named_type(headers) or _type_name(media_type.parameters.get("type", ""))
    if media_type.essence in _FORMS:
        raise Problem(415, f"A message can't be a form: send JSON, with `Content-Type: {JSON}`.")
    if media_type.essence == JSON:
        if not media_type.is_utf8:
            raise Problem(415, "JSON must be UTF-8.")
        value = parse_json(body)
        type_name = type_name or type(value).__name__
    if not type_name:
        raise Problem(400, f"Nothing says of which type the message is: name it by the header {MESSAGE_TYPE_HEADER}.")
    return Encoded(type_name, media_type.essence, body)


def named_type(headers: Mapping[str, str]) -> str:
    """Return the message type that the header `Hivewire-Message-Type` names; empty without one.

    Raises:
        Problem: it is malformed.
    """
    return _type_name(headers.get(MESSAGE_TYPE_HEADER.lower(), ""))


def _type_name(text: str) -> str:
    try:
        # Nothing says in which encoding other bytes of a header are.
        name = unquote(text.encode("ascii").decode(), errors="strict")
    except UnicodeError:
        raise Problem(400, f"{MESSAGE_TYPE_HEADER} is not percent-encoded UTF-8.") from None
    if len(name) > _MAX_TYPE_CHARS or not _is_printable(name):
        raise Problem(400, f"{MESSAGE_TYPE_HEADER} must be a name of at most {_MAX_TYPE_CHARS} characters.")
    return name


def type_header(message: Encoded) -> dict[str, str]:
    """Return the header that names a message's type, percent-encoded where a header can't hold it."""
    return {MESSAGE_TYPE_HEADER: quoted_type(message.type_name)}


def quoted_type(type_name: str) -> str:
    """Write the name of a message type as headers hold it."""
    return quote(type_name, safe="!#$&'()*+,/:;=?@[]^`{|}~<>")


def message_as_json(message: Encoded | None) -> str:
    """Write a message as a JSON value: itself, if it is JSON, else an object with its type and its bytes as base64."""
    if message is None:
        return "null"
    media_type = message.content_type.partition(";")[0].strip().lower()
    if media_type == JSON or media_type.endswith("+json"):
        value = json_value(message.payload)
        if value is not None:
            return value
    encoded = base64.b64encode(message.payload).decode()
    return compact_json({"type": message.type_name, "content_type": message.content_type, "data_base64": encoded})


def json_value(payload: bytes) -> str | None:
    """Return the JSON of a payload without white space between its parts; None: it is not what every parser reads."""
    try:
        value = compact_json(json.loads(payload, parse_constant=_refuse))
        value.encode()  # a lone surrogate has no UTF-8 form
        return value
    except (ValueError, RecursionError):
        return None


def compact_json(value: Any) -> str:
    """Write a value as JSON on one line, in characters that every encoding of a response has."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def seconds_of(headers: Mapping[str, str], *, default: float, limit: float) -> float:
    """Return how long the client of a request waits.

    Raises:
        Problem: it says so in no number of seconds.
    """
    text = headers.get(TIMEOUT_HEADER.lower())
    if text is None:
        return min(default, limit)
    seconds = float(text) if _is_seconds(text.strip()) else math.nan
    if not seconds > 0:
        raise Problem(400, f"{TIMEOUT_HEADER} must be a number of seconds above 0, such as 2.5.")
    return min(seconds, limit)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
