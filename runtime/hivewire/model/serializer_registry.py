"""Which serializer encodes a message, and which decodes a payload.

Two tables answer for everything that was seen before: one by class, one by type name and content type. What is in
neither is worked out once. A serializer that somebody added always wins over one that was found for a class.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from google.protobuf import descriptor_pool, message_factory
from pydantic import BaseModel

from hivewire.exceptions import SerializationError
from hivewire.model.codecs import Codec, normal_content_type
from hivewire.model.serialization import (
    JSON_DATA_CONTENT_TYPE,
    JSON_VALUE_CLASSES,
    PROTOBUF_DATA_CONTENT_TYPE,
    MessageSerializer,
    UnknownPayload,
    message_type_name,
    try_get_known_serializers_for_type,
)

__all__ = ["Encoded", "HandledTypes", "SerializerRegistry"]

HandledTypes: TypeAlias = Mapping[tuple[str, str], Codec]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A message as bytes, with what is needed to read them."""

    type_name: str
    content_type: str
    payload: bytes


class SerializerRegistry:
    """The serializers of one runtime.

    With `strict` a payload that nothing can decode is an error instead of an `UnknownPayload`. One that `passes_on`
    belongs to a process that reads neither messages nor states.
    """

    passes_on: ClassVar[bool] = False

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._chosen: dict[tuple[str, str], Codec] = {}
        self._last_resorts: dict[str, MessageSerializer[Any]] = {}
        self._by_class: dict[type, Codec] = {}
        self._by_name: dict[tuple[str, str], Codec] = {}
        self._handled: dict[type, HandledTypes] = {}
        self._modules: dict[str, None] = {"__main__": None}

    def add(self, serializer: MessageSerializer[Any] | Sequence[MessageSerializer[Any]]) -> None:
        """Use a serializer, or several, from now on; it replaces others of its type name and content type.

        Serializers that come from `try_get_known_serializers_for_type` replace only their like.
        """
        if isinstance(serializer, Sequence):
            for one in serializer:
                self.add(one)
            return
        codec = Codec(serializer)
        if codec.automatic and codec.cls is not None:
            self.learn(codec.cls)
            return
        if codec.type_name:
            # Taken out first, so that the order of the table is the order in which serializers were chosen.
            self._chosen.pop(codec.key, None)
            self._chosen[codec.key] = codec
            self._by_name[codec.key] = codec
        else:
            self._last_resorts.pop(codec.content_type, None)
            self._last_resorts[codec.content_type] = serializer
        # What was worked out before may come out differently now.
        self._by_class.clear()
        self._handled.clear()

    def learn(self, cls: type) -> bool:
        """Find the serializer for a class, and return whether there is one.

        Warns:
            RuntimeWarning: another class took the same name, so payloads without a better hint are read as that one.
        """
        if cls in self._by_class:
            return True
        codec = self._chosen_for(cls) or _known_codec(cls)
        if codec is None:
            return False
        self._by_class[cls] = codec
        self._modules[cls.__module__] = None
        self._claim_name(codec, cls)
        return True

    def remember_module(self, name: str) -> None:
        """Look for the classes of unknown type names in this module too, once it has been imported."""
        self._modules[name] = None

    def encode(self, message: Any) -> Encoded:
        """Encode a message.

        Raises:
            SerializationError: there is no serializer for its class, or it failed.
        """
        cls = message.__class__
        codec = self._by_class.get(cls)
        if codec is None:
            codec = self._by_class[cls] if self.learn(cls) else self._last_resort_for(cls)
        return Encoded(codec.type_name, codec.content_type, codec.encode(message))

    def decode(
        self,
        payload: bytes,
        *,
        type_name: str,
        content_type: str,
        preferred: HandledTypes | None = None,
        strict: bool = False,
    ) -> Any:
        """Decode a payload: as one of the preferred types, else as any type that is known by that name.

        Returns an `UnknownPayload`, with a warning, when there is none; with `strict` that is an error.

        Raises:
            SerializationError: the bytes do not make a message of that type.
        """
        key = (type_name, normal_content_type(content_type))
        codec = preferred.get(key) if preferred is not None else None
        if codec is None:
            codec = self._by_name.get(key) or self._found_by_name(type_name, key[1])
        if codec is None and key[1].endswith(("+json", "/json")):
            # JSON under a name of its own, as producers other than this library like to send it.
            key = (type_name, JSON_DATA_CONTENT_TYPE)
            codec = (preferred or {}).get(key) or self._by_name.get(key) or self._found_by_name(*key)
        if codec is not None:
            return codec.decode(payload)
        problem = f"No serializer can decode {type_name!r} as {content_type}"
        if strict or self._strict:
            raise SerializationError(problem)
        warnings.warn(f"{problem}: handing on an UnknownPayload", RuntimeWarning, stacklevel=2)
        return UnknownPayload(type_name, content_type, payload)

    def handled_types(self, agent_class: type) -> HandledTypes:
        """Return how to decode the message types that an agent class declares, for `decode`'s `preferred`."""
        handled = self._handled.get(agent_class)
        if handled is None:
            handled = self._handled[agent_class] = self._declared_by(agent_class)
            self._modules[agent_class.__module__] = None
        return handled

    def _declared_by(self, agent_class: type) -> dict[tuple[str, str], Codec]:
        declared: dict[tuple[str, str], Codec] = {}
        handles_types = getattr(agent_class, "_handles_types", None)
        try:
            pairs = [] if handles_types is None else handles_types()
        except SerializationError:
            # A type that nothing serializes never comes over the wire; the others are found by name.
            pairs = []
        for cls, serializers in pairs:
            chosen = self._chosen_for(cls)
            for codec in map(Codec, serializers):
                if chosen is not None and codec.automatic:
                    declared.setdefault(chosen.key, chosen)
                else:
                    declared.setdefault(codec.key, codec)
        return declared

    def _chosen_for(self, cls: type) -> Codec | None:
        """Return the serializer that was added last for this class, or for its name without naming any class."""
        by_name = None
        name = message_type_name(cls)
        for codec in reversed(self._chosen.values()):
            if codec.cls is cls:
                return codec
            if by_name is None and codec.cls is None and codec.type_name == name:
                by_name = codec
        return by_name

    def _last_resort_for(self, cls: type) -> Codec:
        if not self._last_resorts:
            raise SerializationError(
                f"No serializer for messages of class {cls.__module__}.{cls.__qualname__}: make it a dataclass, a"
                " pydantic model or a protobuf message, or add a serializer to the runtime"
            )
        newest = next(reversed(self._last_resorts.values()))
        codec = self._by_class[cls] = Codec(newest, type_name=message_type_name(cls))
        return codec

    def _claim_name(self, codec: Codec, cls: type) -> None:
        holder = self._by_name.setdefault(codec.key, codec)
        if holder is codec or not holder.automatic or holder.cls is None or holder.cls is cls:
            return
        if _is_redefined(holder.cls, cls):
            self._by_name[codec.key] = codec
            return
        warnings.warn(
            f"{_path(holder.cls)} and {_path(cls)} are both sent as {codec.type_name!r}: payloads of that name are"
            " read as the first unless the receiving agent handles the second. Rename one of them, or give it a"
            " serializer with another type_name.",
            RuntimeWarning,
            stacklevel=4,
        )

    def _found_by_name(self, type_name: str, content_type: str) -> Codec | None:
        key = (type_name, content_type)
        codecs = {cls: _known_codec(cls) for cls in self._classes_named(type_name, content_type)}
        fitting = [codec for codec in codecs.values() if codec is not None and codec.key == key]
        if len(fitting) == 1:
            return self._by_name.setdefault(key, fitting[0])
        last_resort = self._last_resorts.get(content_type)
        # Not kept: names come from outside, and there is no end of them.
        return None if last_resort is None else Codec(last_resort, type_name=type_name)

    def _classes_named(self, type_name: str, content_type: str) -> Iterator[type]:
        yield from (cls for cls in JSON_VALUE_CLASSES if cls.__name__ == type_name)
        if content_type == PROTOBUF_DATA_CONTENT_TYPE:
            try:
                yield message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(type_name))
            except KeyError:
                pass
        for module in list(self._modules):
            candidate = getattr(sys.modules.get(module), "__dict__", {}).get(type_name)
            if isinstance(candidate, type) and candidate.__name__ == type_name and _is_message_class(candidate):
                yield candidate


def _known_codec(cls: type) -> Codec | None:
    known = try_get_known_serializers_for_type(cls)
    return Codec(known[0]) if known else None


def _is_message_class(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or (issubclass(cls, BaseModel) and cls is not BaseModel)


def _is_redefined(old: type, new: type) -> bool:
    """Whether the new class took the old one's place, as when a notebook cell or a module is run again."""
    return _path(old) == _path(new) and "<locals>" not in new.__qualname__


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
