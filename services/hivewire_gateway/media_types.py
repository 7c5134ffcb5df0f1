"""Media types as `Content-Type` headers and `datacontenttype` attributes name them (RFC 2046, RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """A media type. `essence` is `type/subtype` in lower case, as are the names of its parameters."""

    essence: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a media type.

        Raises:
            ValueError: it is none.
        """
        found = _ESSENCE.match(text)
        if found is None:
            raise ValueError("not a media type such as application/json")
        parameters: dict[str, str] = {}
        position = found.end()
        while position < len(text):
            # One parameter at a time: a single pattern for all of them could be made to backtrack for ever.
            parameter = _PARAMETER.match(text, position)
            if parameter is None:
                raise ValueError("a media type with a malformed parameter")
            position = parameter.end()
            if parameter["name"]:
                parameters.setdefault(parameter["name"].lower(), _unquoted(parameter["value"]))
        return cls(essence=found[0].lower(), parameters=parameters)

    @property
    def is_json(self) -> bool:
        """Whether it declares JSON by the rule of the CloudEvents JSON format, 3.1.1: `*/json` and `*/*+json`."""
        subtype = self.essence.partition("/")[2]
        return subtype == "json" or subtype.endswith("+json")

    @property
    def is_utf8(self) -> bool:
        """Whether its text, if it is any, is UTF-8; ASCII is."""
        return self.parameters.get("charset", "").lower() in ("", "utf-8", "utf8", "us-ascii")


_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f-\U0010ffff]|\\[ -~])*"'
_ESSENCE = re.compile(rf"{_TOKEN}/{_TOKEN}")
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*(?:(?P<name>{_TOKEN})=(?P<value>{_TOKEN}|{_QUOTED}))?[ \t]*(?=;|\Z)")


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
