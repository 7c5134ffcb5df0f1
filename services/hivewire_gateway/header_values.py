"""Attributes in HTTP headers, decoded as the CloudEvents HTTP protocol binding 1.0.2, 3.1.3.2, says: strictly."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes


def decoded(value: str) -> str:
    """Return what the value of a `ce-` header stands for: unquoted if it is in double quotes, then percent-decoded.

    Raises:
        ValueError: it is malformed; the text is the rest of a sentence that begins with the header's name.
    """
    if _is_printable(value) is None:
        raise ValueError("has characters that are not printable ASCII: percent-encode their UTF-8 bytes")
    if value.startswith('"'):
        # Earlier versions of the binding did not percent-encode spaces and quotes.
        if _is_quoted(value) is None:
            raise ValueError("begins with a double quote and is not a quoted string: write a double quote as %22")
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    if "%" not in value:
        return value
    if _has_stray_percent(value) is not None:
        raise ValueError("has a percent sign without two hexadecimal digits: write a percent sign as %25")
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise ValueError("is percent-encoded, and its bytes are not UTF-8") from None


_is_printable = re.compile(r"[ -~]*").fullmatch
_is_quoted = re.compile(r'"(?:[^"\\]|\\.)*"').fullmatch
_has_stray_percent = re.compile(r"%(?![0-9A-Fa-f]{2})").search
