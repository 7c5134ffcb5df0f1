"""What a published message is about: its type says which kind of event, its source in which context it happened."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from pydantic_core import core_schema

from hivewire.model.contexts import MessageHandlerContext
from hivewire.model.ids import is_printable_ascii

__all__ = ["DefaultTopicId", "TopicId", "check_strict_topic_id"]


@dataclass(frozen=True, eq=False, init=False)
class TopicId:
    """A topic, `type/source`. Immutable; topics with equal type and source are equal, whatever their class.

    The type is one or more word characters, `-`, `.`, `:` and `=`; the source is any string.

    Raises:
        ValueError: the type is not a valid one.
        TypeError: type or source is not a string.
    """

    # Slots by hand: the hash is cached beside the fields without being one of them.
    __slots__ = ("_hash", "source", "type")

    type: str
    source: str

    def __init__(self, type: str, source: str) -> None:
        if type.__class__ is not str:
            type = _plain(type, "type")
        if source.__class__ is not str:
            source = _plain(source, "source")
        if not _is_type(type):
            raise ValueError(f"Invalid topic type {type!r}: use word characters, '-', '.', ':' and '=' only")
        _set_type(self, type)
        _set_source(self, source)
        _set_hash(self, hash((type, source)))

    @classmethod
    def from_str(cls, topic_id: str) -> Self:
        """Read `type/source`; the first `/` separates the two.

        Raises:
            ValueError: there is no `/`, or the type is not a valid one.
        """
        type_, slash, source = topic_id.partition("/")
        if not slash:
            raise ValueError(f"Invalid topic id {topic_id!r}: expected type/source")
        return cls(type_, source)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TopicId):
            return self.type == other.type and self.source == other.source
        return NotImplemented

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]

    def __str__(self) -> str:
        return f"{self.type}/{self.source}"

    def __reduce__(self) -> tuple[Callable[[str, str], Self], tuple[str, str]]:
        # The cached hash must not travel: string hashes differ from process to process.
        return self.__class__, (self.type, self.source)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Let topics be fields of messages; in JSON they are objects with `type` and `source`."""
        field = core_schema.typed_dict_field(core_schema.str_schema(), required=True)
        from_object = core_schema.no_info_after_validator_function(
            lambda fields: cls(fields["type"], fields["source"]),
            core_schema.typed_dict_schema({"type": field, "source": field}),
        )
        return core_schema.json_or_python_schema(
            json_schema=from_object,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(TopicId), from_object]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda topic: {"type": topic.type, "source": topic.source}
            ),
        )


class DefaultTopicId(TopicId):
    """A topic whose source, when left out, is the key of the agent whose handler runs, outside handlers `default`."""

    __slots__ = ()

    def __init__(self, type: str = "default", source: str | None = None) -> None:
        if source is None:
            handler = MessageHandlerContext.current()
            source = "default" if handler is None else handler.key
        super().__init__(type, source)


def check_strict_topic_id(topic_id: TopicId) -> None:
    """Refuse a topic that the `strict_ids` option does not allow.

    Raises:
        ValueError: the type is not ASCII, or the source, which becomes an agent's key, is not printable ASCII.
    """
    if not topic_id.type.isascii():
        raise ValueError(f"Topic type {topic_id.type!r} is not allowed under strict_ids: use ASCII only")
    if not is_printable_ascii(topic_id.source):
        raise ValueError(f"Topic source {topic_id.source!r} is not allowed under strict_ids: use printable ASCII only")


_TYPE = re.compile(r"[\w\-.:=]+")
# The slot descriptors write past the frozen `__setattr__` at half the cost of `object.__setattr__`.
_set_type = TopicId.__dict__["type"].__set__
_set_source = TopicId.__dict__["source"].__set__
_set_hash = TopicId.__dict__["_hash"].__set__


@lru_cache(maxsize=4096)
def _is_type(type: str) -> bool:
    return _TYPE.fullmatch(type) is not None


def _plain(text: object, what: str) -> str:
    """Turn a string of a subclass (an enum member, say) into a plain one."""
    if not isinstance(text, str):
        raise TypeError(f"The {what} of a TopicId must be a string, not {text!r}")
    return str.__str__(text)
