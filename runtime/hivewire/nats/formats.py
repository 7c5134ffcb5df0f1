"""The version that everything stored and sent carries.

A record of a newer version is refused and left as it is: this process can't know what it would break. Members that are
not known are ignored, so a version that only adds some keeps the number. What says no version is of the first one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hivewire.exceptions import UnsupportedFormatError

FORMAT: Final = 1
"""What this version writes, and the newest that it reads."""

FORMAT_HEADER: Final = "ce-hwformat"
"""The header by which an event names its format."""


def check_format(data: Any, what: str) -> None:
    """Refuse a record that a newer version wrote.

    Raises:
        UnsupportedFormatError: it did; `what` names the record in the text.
    """
    number = data.get("format", 1) if isinstance(data, Mapping) else 1
    if not isinstance(number, int) or number > FORMAT:
        raise UnsupportedFormatError(
            f"{what} has format {number}, and this version of Hivewire reads formats up to {FORMAT}: it is left as it "
            "is; upgrade this process"
        )


def check_format_header(value: str | None, what: str) -> None:
    """Refuse a message that a newer version wrote. `value` is that of its format header, None where it has none.

    Raises:
        UnsupportedFormatError: it did.
    """
    if value is not None:
        number = int(value) if value.isdecimal() and len(value) < 10 else value
        check_format({"format": number}, what)
