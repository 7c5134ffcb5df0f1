"""The values of CloudEvents attributes: what the type system of CloudEvents 1.0 allows, and nothing else.

Everything here raises `ValueError` with the rest of a sentence that begins with the attribute's name. The text never
holds the value: it goes into responses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from hivewire_gateway.media_types import MediaType

RESERVED = frozenset({"agagentsendertype", "agagentsenderkey", "agmsgkind", "hwformat"})
"""Attributes that Hivewire itself writes. From outside they would let anybody pose as an agent."""

_SMALLEST, _LARGEST = -(2**31), 2**31 - 1


def check_name(name: str) -> None:
    """Check the name of an attribute.

    Raises:
        ValueError: no attribute may be called that, or Hivewire keeps the name for itself.
    """
    if name == "data" or _is_name(name) is None:
        raise ValueError("is not the name of an attribute: use lower-case letters a-z and digits only")
    if name in RESERVED:
        raise ValueError("is set by Hivewire itself: leave it out")


def text_of(value: object) -> str:
    """Return the canonical text of a value that came as JSON: text, an integer or a boolean.

    Raises:
        ValueError: it is of another type, or an integer of more than 32 bits.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() if _SMALLEST <= value <= _LARGEST:
            return str(value)
        case int():
            raise ValueError("is an integer of more than 32 bits: send it as a string")
    raise ValueError("has to be a string, an integer or a boolean")


def check_attributes(attributes: Mapping[str, str]) -> None:
    """Check all attributes of an event, the required ones included.

    Raises:
        ValueError: one is missing or malformed. The text is a whole sentence.
    """
    missing = [name for name in ("specversion", "id", "source", "type") if name not in attributes]
    if missing:
        raise ValueError(f"The attribute {' and '.join(missing)} is missing: not a CloudEvent.")
    for name, value in attributes.items():
        try:
            check_name(name)
            check_text(value)
            if check := _CHECKS.get(name):
                check(value)
        except ValueError as error:
            raise ValueError(f"The attribute {name[:40]!a} {error}.") from None


def check_text(value: str) -> None:
    """Check for characters that a String must not have (CloudEvents 1.0, type system).

    Raises:
        ValueError: there is one.
    """
    if _has_forbidden(value) is not None:
        raise ValueError("has a control character, a lone surrogate or a noncharacter, none of which is allowed")


def _check_not_empty(value: str) -> None:
    if not value:
        raise ValueError("is empty")


def _check_version(value: str) -> None:
    if value == "0.3":
        raise ValueError("says 0.3: send the event as CloudEvents 1.0")
    if value != "1.0":
        raise ValueError("is not 1.0, the only version that is understood")


def _check_uri_reference(value: str) -> None:
    _check_not_empty(value)
    if _is_uri_reference(value) is None:
        raise ValueError(
            "is not a URI-reference (RFC 3986): percent-encode what is not allowed in one, and in a header encode the "
            "percent signs once more"
        )


def _check_time(value: str) -> None:
    found = _is_time(value)
    if found is None:
        raise ValueError("is not a time by RFC 3339, such as 2018-04-05T17:31:00Z")
    try:
        date(int(found["year"]), int(found["month"]), int(found["day"]))
    except ValueError:
        raise ValueError("is not a day of the calendar") from None


def _check_media_type(value: str) -> None:
    try:
        MediaType.parse(value)
    except ValueError as error:
        raise ValueError(f"is {error}") from None


_CHECKS = {
    "specversion": _check_version,
    "id": _check_not_empty,
    "type": _check_not_empty,
    "subject": _check_not_empty,
    "source": _check_uri_reference,
    # By the specification a URI with a scheme. Hivewire keeps the names of message types in it, which have none.
    "dataschema": _check_uri_reference,
    "time": _check_time,
    "datacontenttype": _check_media_type,
}

_is_name = re.compile(r"[a-z0-9]+").fullmatch
_PLANES = "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
_has_forbidden = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_PLANES}]").search

_HOURS = r"(?:[01][0-9]|2[0-3])"
_is_time = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    # A minute may have a leap second.
    rf"[Tt]{_HOURS}:[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?(?:[Zz]|[+-]{_HOURS}:[0-5][0-9])"
).fullmatch

_PLAIN = r"A-Za-z0-9\-._~!$&'()*+,;="
_ENCODED = "%[0-9A-Fa-f]{2}"
_SEGMENTS = rf"(?:/(?:[{_PLAIN}:@]|{_ENCODED})*)*"
_AUTHORITY = rf"(?:(?:[{_PLAIN}:]|{_ENCODED})*@)?(?:\[[{_PLAIN}:]+\]|(?:[{_PLAIN}]|{_ENCODED})*)(?::[0-9]*)?{_SEGMENTS}"
_ROOTED = rf"//{_AUTHORITY}|/(?:(?:[{_PLAIN}:@]|{_ENCODED})+{_SEGMENTS})?"
_REST = rf"(?:\?(?:[{_PLAIN}:@/?]|{_ENCODED})*)?(?:#(?:[{_PLAIN}:@/?]|{_ENCODED})*)?"
_is_uri_reference = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+\-.]*:(?:{_ROOTED}|(?:[{_PLAIN}:@]|{_ENCODED})+{_SEGMENTS})?"
    # Without a scheme a colon in the first segment would make one.
    rf"|{_ROOTED}|(?:[{_PLAIN}@]|{_ENCODED})+{_SEGMENTS})?{_REST}"
).fullmatch
