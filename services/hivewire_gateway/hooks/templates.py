"""Texts with places for what a delivery says: `github.{header.X-GitHub-Event}`, `{body.repository.full_name}`.

There is nothing else in the language, so a template can be checked when the settings are read, and rendering one runs
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

_PLACE = re.compile(r"\{([^{}]*)\}")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MEMBER = re.compile(r"[^.{}\s]+")


class MissingValueError(ValueError):
    """A delivery has no value for a place. The text says which place, and nothing else of the delivery."""


@dataclass(frozen=True, slots=True)
class Place:
    """A header by its name, or a member of the body by the names on the way to it."""

    kind: Literal["header", "body"]
    path: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what stands between the braces.

        Raises:
            ValueError: it names neither a header nor a member.
        """
        kind, _, rest = text.partition(".")
        if kind == "header" and _HEADER.fullmatch(rest):
            return cls("header", (rest,))
        if kind == "body" and all(_MEMBER.fullmatch(name) for name in rest.split(".")):
            return cls("body", tuple(rest.split(".")))
        raise ValueError(
            f"{{{text}}} is no place: write {{header.NAME}} for a header, or {{body.MEMBER.MEMBER}} for a member of "
            "the JSON"
        )

    def __str__(self) -> str:
        return f"{{{self.kind}.{'.'.join(self.path)}}}"

    def value(self, headers: Mapping[str, str], body: Any) -> str:
        """Return what a delivery has there: a text that is not empty, or an integer.

        Raises:
            MissingValueError: it has nothing there, or something else.
        """
        found = headers.get(self.path[0]) if self.kind == "header" else self._member(body)
        if isinstance(found, int) and not isinstance(found, bool):
            return str(found)
        if not isinstance(found, str) or not found:
            raise MissingValueError(f"{self} has to be a text or an integer")
        return found

    def _member(self, body: Any) -> Any:
        for name in self.path:
            body = body.get(name) if isinstance(body, dict) else None
        return body


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and places, one after the other."""

    parts: tuple[str | Place, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a template.

        Raises:
            ValueError: it is malformed.
        """
        if not text:
            raise ValueError("a template must not be empty")
        # What a pattern with one group splits is in turns text and group.
        parts = [Place.parse(part) if index % 2 else part for index, part in enumerate(_PLACE.split(text))]
        if any(isinstance(part, str) and ("{" in part or "}" in part) for part in parts):
            raise ValueError(f"{text!r} has a brace without its partner")
        return cls(tuple(part for part in parts if part))

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    def render(self, headers: Mapping[str, str], body: Any) -> str:
        """Return the text for a delivery. Names of headers may be in any case if `headers` takes them so.

        Raises:
            MissingValueError: a place has no value.
        """
        return "".join(part if isinstance(part, str) else part.value(headers, body) for part in self.parts)

    def sample(self) -> str:
        """Return the text with an `x` in each place, to see what the rest of it allows."""
        return "".join(part if isinstance(part, str) else "x" for part in self.parts)
