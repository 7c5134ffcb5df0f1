"""Values of labels that others choose: only so many of them are told apart."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"


class LabelValues:
    """The first values that come, at most `limit`; all others are `other`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        """Return what stands for a value."""
        if value in self._known:
            return value
        if len(self._known) >= self._limit or not _is_utf8(value):
            return OTHER
        self._known.add(value)
        return value


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        # One value with a lone surrogate would break the whole page.
        return False
    return True
