"""Text in message headers: percent-encoded, so that any string fits and no line end gets in."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

NO_TRACE: Final[Mapping[str, str]] = MappingProxyType({})

_TRACE_HEADERS: Final = ("traceparent", "tracestate")


class EnvelopeError(ValueError):
    """The headers of a message don't say what they must, or a value can't be put into headers."""


def quoted(text: str) -> str:
    """Percent-encode a header value by the CloudEvents NATS binding: space, ``"``, ``%``, and all but ``!`` to ``~``.

    Raises:
        EnvelopeError: The text holds a lone surrogate, so it has no UTF-8 form.
    """
    if not _needs_quoting(text):
        return text
    try:
        return _UNSAFE_BYTE.sub(lambda byte: b"%%%02X" % byte[0][0], text.encode()).decode()
    except UnicodeEncodeError as error:
        raise EnvelopeError(f"{text[:80]!a} holds a lone surrogate and can't be put into a header") from error


def unquoted(value: str) -> str:
    """Undo `quoted`. A ``%`` without two hex digits stays as it is.

    Raises:
        EnvelopeError: The encoded bytes are not UTF-8.
    """
    if "%" not in value:
        return value
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise EnvelopeError("a header value is not percent-encoded UTF-8") from error


def trace_of(headers: Mapping[str, str], prefix: str = "") -> Mapping[str, str]:
    """Return the W3C trace context among some headers, whose names are lower-case and begin with `prefix`."""
    if f"{prefix}traceparent" not in headers:
        return NO_TRACE
    return {name: headers[prefix + name] for name in _TRACE_HEADERS if prefix + name in headers}


_needs_quoting = re.compile(r"[^!#$&-~]").search
_UNSAFE_BYTE = re.compile(rb"[^!#$&-~]")
