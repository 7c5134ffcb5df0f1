"""Brings serializers of every tolerated shape into one.

Users write serializers from examples of several ages: `deserialize` takes the type name or does not, type name and
content type are there or not, protobuf's content type has two spellings. That is sorted out here, once per serializer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from hivewire.exceptions import SerializationError
from hivewire.model.serialization import (
    JSON_DATA_CONTENT_TYPE,
    PROTOBUF_DATA_CONTENT_TYPE,
    BuiltInSerializer,
    MessageSerializer,
    message_type_name,
    message_type_of,
)

__all__ = ["Codec", "normal_content_type"]


class Codec:
    """A serializer in the shape that the registry works with: `encode` and `decode` raise `SerializationError` only.

    `type_name` is empty for a serializer that says neither by name nor by class what it is for. `cls` is None when the
    class is not known. `automatic` tells that nobody chose this serializer: it fits the class and was found.
    """

    __slots__ = ("automatic", "cls", "content_type", "decode", "encode", "serializer", "type_name")

    def __init__(self, serializer: MessageSerializer[Any], *, type_name: str | None = None) -> None:
        message_type = message_type_of(serializer)
        self.serializer = serializer
        self.cls = message_type if isinstance(message_type, type) else None
        self.type_name: str = (
            type_name or getattr(serializer, "type_name", None) or message_type_name(message_type) or ""
        )
        self.content_type = normal_content_type(getattr(serializer, "data_content_type", None))
        self.automatic = False
        self.encode: Callable[[Any], bytes] = serializer.serialize
        self.decode: Callable[[bytes], Any] = serializer.deserialize
        if isinstance(serializer, BuiltInSerializer):
            self.automatic = serializer.automatic
        else:
            self.encode = self._encode_guarded
            self.decode = self._decode_guarded(serializer.deserialize)

    @property
    def key(self) -> tuple[str, str]:
        return self.type_name, self.content_type

    def _encode_guarded(self, message: Any) -> bytes:
        try:
            payload: Any = self.serializer.serialize(message)
        except Exception as error:
            raise self._failed("encode", error) from error
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise self._failed("encode", TypeError(f"serialize returned {type(payload).__name__} instead of bytes"))
        return bytes(payload)

    def _decode_guarded(self, deserialize: Callable[..., Any]) -> Callable[[bytes], Any]:
        arguments = (self.type_name,) if _needs_type_name(deserialize) else ()

        def decode(payload: bytes) -> Any:
            try:
                return deserialize(payload, *arguments)
            except Exception as error:
                raise self._failed("decode", error) from error

        return decode

    def _failed(self, verb: str, error: Exception) -> SerializationError:
        return SerializationError(
            f"Cannot {verb} {self.type_name!r} as {self.content_type}"
            f" with {type(self.serializer).__name__}: {type(error).__name__}: {error}"
        )


def normal_content_type(content_type: str | None) -> str:
    """Return the one spelling of a content type: lower case, without parameters; nothing at all means JSON."""
    if content_type in _NORMAL:
        return content_type
    bare = (content_type or JSON_DATA_CONTENT_TYPE).partition(";")[0].strip().lower()
    return PROTOBUF_DATA_CONTENT_TYPE if bare == "application/protobuf" else bare


_NORMAL = frozenset({JSON_DATA_CONTENT_TYPE, PROTOBUF_DATA_CONTENT_TYPE})


def _needs_type_name(deserialize: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(deserialize).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(required) > 1
