"""CloudEvents 1.0 as they arrive over NATS from any producer, in binary or in structured mode.

In binary mode the attributes are ``ce-`` headers, in structured mode the payload is a JSON object that holds them and
the data. Header names are read in any case. There is no batch mode in the NATS binding.
"""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from json import dumps, loads
from typing import Any, Final

from hivewire.nats.header_text import EnvelopeError, trace_of, unquoted

DEFAULT_CONTENT_TYPE: Final = "application/json"
"""The content type of data that names none."""

_REQUIRED: Final = ("ce-specversion", "ce-id", "ce-type", "ce-source")
_DATA: Final = frozenset(("data", "data_base64"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """The attributes of a CloudEvent, extensions included, and its data.

    Attributes are named as the headers of binary mode: ``ce-id``. The required ones are there. Other headers may be
    among them.
    """

    attributes: Mapping[str, str]
    content_type: str
    data: bytes
    trace: Mapping[str, str]


def read_cloud_event(headers: Mapping[str, str] | None, payload: bytes) -> CloudEvent:
    """Read a message as a CloudEvent.

    Raises:
        EnvelopeError: It is none, or of a version or format that is not understood; the text says what is missing.
    """
    lower = {name.lower(): value for name, value in headers.items()} if headers else {}
    content_type = lower.get("content-type", "")
    if content_type.lower().startswith("application/cloudevents"):
        return _structured(lower, content_type, payload)
    for name in [name for name, value in lower.items() if "%" in value and name.startswith("ce-")]:
        lower[name] = unquoted(lower[name])
    return _checked(lower, content_type or lower.get("ce-datacontenttype") or DEFAULT_CONTENT_TYPE, payload, lower)


def _structured(lower: Mapping[str, str], content_type: str, payload: bytes) -> CloudEvent:
    if _media_type(content_type) != "application/cloudevents+json":
        raise EnvelopeError(f"a CloudEvent as {content_type!r}: only application/cloudevents+json is understood")
    try:
        event = loads(payload)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"a CloudEvent in structured mode that is not JSON: {error}") from error
    if not isinstance(event, dict):
        raise EnvelopeError("a CloudEvent in structured mode that is not a JSON object")
    attributes = {
        f"ce-{name}": _attribute(name, value)
        for name, value in event.items()
        if name not in _DATA and value is not None
    }
    content_type = attributes.get("ce-datacontenttype", DEFAULT_CONTENT_TYPE)
    return _checked(attributes, content_type, _data_of(event, content_type), lower)


def _checked(attributes: Mapping[str, str], content_type: str, data: bytes, headers: Mapping[str, str]) -> CloudEvent:
    missing = [name for name in _REQUIRED if name not in attributes]
    if missing:
        raise EnvelopeError(f"not a CloudEvent: {', '.join(missing)} missing")
    version = attributes["ce-specversion"]
    if not version.startswith("1."):
        raise EnvelopeError(f"a CloudEvent of version {version!r}: only version 1.0 is understood")
    # The trace context is also a CloudEvents extension, which some producers set instead of the plain headers.
    trace = trace_of(headers) or trace_of(attributes, "ce-")
    return CloudEvent(attributes=attributes, content_type=content_type, data=data, trace=trace)


def _attribute(name: str, value: object) -> str:
    # An attribute is text, an integer or a boolean; the canonical text of a boolean is lower-case.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise EnvelopeError(f"the attribute {name!r} of a CloudEvent is neither text, an integer nor a boolean")


def _data_of(event: Mapping[str, Any], content_type: str) -> bytes:
    if (encoded := event.get("data_base64")) is not None:
        try:
            return b64decode(encoded, validate=True)
        except (TypeError, ValueError) as error:
            raise EnvelopeError(f"the data_base64 of a CloudEvent is not base64: {error}") from error
    if "data" not in event:
        return b""
    data, media_type = event["data"], _media_type(content_type)
    if isinstance(data, str) and media_type != DEFAULT_CONTENT_TYPE and not media_type.endswith("+json"):
        try:
            return data.encode()
        except UnicodeEncodeError as error:
            raise EnvelopeError("the data of a CloudEvent holds a lone surrogate") from error
    return dumps(data, separators=(",", ":")).encode()


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
