"""Who an agent is: its type names the class of behaviour, its key the instance.

Ids are made for every message, so construction is kept cheap: a valid type is remembered, the hash is computed once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, TypedDict

from pydantic_core import core_schema

__all__ = [
    "AgentId",
    "AgentMetadata",
    "AgentType",
    "check_agent_type",
    "check_strict_agent_id",
    "is_printable_ascii",
    "is_strict_type",
]


class AgentMetadata(TypedDict):
    """What a runtime tells about an agent."""

    type: str
    key: str
    description: str


@dataclass(frozen=True, init=False)
class AgentType:
    """The name under which an agent class is registered. `name` is another word for `type`.

    The name is checked when it is registered, not here.
    """

    type: str

    def __init__(self, type: str | None = None, *, name: str | None = None) -> None:
        if (type is None) == (name is None):
            raise TypeError("AgentType takes exactly one of `type` and `name`")
        object.__setattr__(self, "type", name if type is None else type)

    @property
    def name(self) -> str:
        return self.type


class AgentId:
    """The address of one agent, `type/key`. Immutable; two ids with equal type and key are equal.

    The type is one or more word characters, `-` and `.`; the key is any string, the empty one included.

    Raises:
        ValueError: the type is not a valid one.
        TypeError: type or key is not a string.
    """

    __slots__ = ("_hash", "_key", "_type")

    def __init__(self, type: str | AgentType, key: str) -> None:
        if type.__class__ is not str:
            type = _plain(type.type if isinstance(type, AgentType) else type, "type")
        if key.__class__ is not str:
            key = _plain(key, "key")
        if not _is_type(type):
            check_agent_type(type)
        self._type: str = type
        self._key = key
        self._hash = hash((type, key))

    @property
    def type(self) -> str:
        return self._type

    @property
    def key(self) -> str:
        return self._key

    @classmethod
    def from_str(cls, agent_id: str) -> Self:
        """Read `type/key`; the first `/` separates the two.

        Raises:
            ValueError: there is no `/`, or the type is not a valid one.
        """
        type_, slash, key = agent_id.partition("/")
        if not slash:
            raise ValueError(f"Invalid agent id {agent_id!r}: expected type/key")
        return cls(type_, key)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AgentId):
            return self._type == other._type and self._key == other._key
        return NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"{self._type}/{self._key}"

    def __repr__(self) -> str:
        return f"AgentId(type={self._type!r}, key={self._key!r})"

    def __reduce__(self) -> tuple[Callable[[str, str], Self], tuple[str, str]]:
        # The cached hash must not travel: string hashes differ from process to process.
        return self.__class__, (self._type, self._key)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Let ids be fields of messages; in JSON they are `"type/key"`."""
        from_text = core_schema.no_info_after_validator_function(cls.from_str, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(AgentId), from_text]),
            serialization=core_schema.to_string_ser_schema(),
        )


def check_agent_type(type: str) -> None:
    """Refuse what cannot be an agent type.

    Raises:
        ValueError: the type is empty or has other characters than word characters, `-` and `.`.
    """
    if not _is_type(type):
        raise ValueError(f"Invalid agent type {type!r}: use word characters, '-' and '.' only")


def is_strict_type(type: str) -> bool:
    """Whether the type keeps to ASCII letters, digits and underscores."""
    return _STRICT_TYPE.fullmatch(type) is not None


def is_printable_ascii(text: str) -> bool:
    """Whether all characters lie between space and tilde."""
    return text.isascii() and text.isprintable()


def check_strict_agent_id(id: AgentId) -> None:
    """Refuse an id that the `strict_ids` option does not allow.

    Raises:
        ValueError: the type has other characters than ASCII letters, digits and underscores, or the key other than
            printable ASCII.
    """
    if not is_strict_type(id.type):
        raise ValueError(f"Agent type {id.type!r} is not allowed under strict_ids: use letters, digits and '_' only")
    if not is_printable_ascii(id.key):
        raise ValueError(f"Agent key {id.key!r} is not allowed under strict_ids: use printable ASCII only")


_TYPE = re.compile(r"[\w\-.]+")
_STRICT_TYPE = re.compile(r"[A-Za-z0-9_]+")


@lru_cache(maxsize=4096)
def _is_type(type: str) -> bool:
    return _TYPE.fullmatch(type) is not None


def _plain(text: object, what: str) -> str:
    """Turn a string of a subclass (an enum member, say) into a plain one."""
    if not isinstance(text, str):
        raise TypeError(f"The {what} of an AgentId must be a string, not {text!r}")
    return str.__str__(text)
