"""How messages become bytes: the serializer protocol and the built-in serializers.

The bytes are those of AutoGen: compact JSON equal in value to what it writes, and protobuf messages in an `Any`
wrapper. Schemas are built when the first message is encoded or decoded, so a class that no schema fits may still be
used within one process.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar, get_args, get_origin

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from pydantic import BaseModel, ValidationError

from hivewire.exceptions import SerializationError
from hivewire.model.schema_json import SchemaJson, json_of_dataclass, json_of_model

__all__ = [
    "JSON_DATA_CONTENT_TYPE",
    "JSON_VALUE_CLASSES",
    "PROTOBUF_DATA_CONTENT_TYPE",
    "BuiltInSerializer",
    "DataclassJsonMessageSerializer",
    "JsonValueMessageSerializer",
    "MessageSerializer",
    "ProtobufMessageSerializer",
    "PydanticJsonMessageSerializer",
    "RpcCall",
    "UnknownPayload",
    "message_type_name",
    "message_type_of",
    "try_get_known_serializers_for_type",
]

JSON_DATA_CONTENT_TYPE = "application/json"
PROTOBUF_DATA_CONTENT_TYPE = "application/x-protobuf"

JSON_VALUE_CLASSES: frozenset[type] = frozenset({str, int, float, bool, types.NoneType, dict, list})
"""The classes of bare JSON values, which are messages too."""

T = TypeVar("T")


class MessageSerializer(Protocol[T]):
    """Turns messages of one kind into bytes and back.

    A class that derives from `MessageSerializer[MyMessage]` may leave out both properties: the type name is then that
    of its argument, the content type JSON. Without an argument the type name is empty, and the serializer serves as the
    last resort for its content type. `deserialize` may take the type name as a second argument.
    """

    @property
    def data_content_type(self) -> str:
        return JSON_DATA_CONTENT_TYPE

    @property
    def type_name(self) -> str:
        return message_type_name(message_type_of(self)) or ""

    def serialize(self, message: T) -> bytes: ...

    def deserialize(self, payload: bytes) -> T: ...


@dataclass
class UnknownPayload:
    """Stands in for a message that nothing in this process can decode."""

    type_name: str
    data_content_type: str
    payload: bytes


@dataclass
class RpcCall:
    """The message that calls an `@rpc` method which takes no message."""

    method: str
    kwargs: dict[str, Any] = field(default_factory=dict)


class BuiltInSerializer(MessageSerializer[T]):
    """Serializes one class. `automatic` tells that it was found for the class, not chosen by anybody."""

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls
        self.automatic = False

    @property
    def type_name(self) -> str:
        return message_type_name(self.cls) or ""

    def serialize(self, message: T) -> bytes:
        """Encode a message.

        Raises:
            SerializationError: the class has fields that cannot be encoded, or this message has such values.
        """
        try:
            return self._encode(message)
        except Exception as error:
            raise self._error("encode", error) from _cause(error)

    def deserialize(self, payload: bytes) -> T:
        """Decode a message.

        Raises:
            SerializationError: the bytes are not those of such a message.
        """
        try:
            return self._decode(payload)
        except Exception as error:
            raise self._error("decode", error) from _cause(error)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.cls.__qualname__})"

    @cached_property
    def _encode(self) -> Callable[[T], bytes]:
        raise NotImplementedError

    @cached_property
    def _decode(self) -> Callable[[bytes], T]:
        raise NotImplementedError

    def _error(self, verb: str, error: Exception) -> SerializationError:
        if isinstance(error, SerializationError):
            reason = str(error)
        elif isinstance(error, ValidationError):
            reason = _without_contents(error)
        else:
            reason = f"{type(error).__name__}: {error}"
        return SerializationError(f"Cannot {verb} {self.type_name!r} as {self.data_content_type}: {reason}")


class DataclassJsonMessageSerializer(BuiltInSerializer[T], Generic[T]):
    """JSON for dataclasses; nested classes, unions and containers come back as their declared classes."""

    @cached_property
    def _encode(self) -> Callable[[T], bytes]:
        return self._json.encode

    @cached_property
    def _decode(self) -> Callable[[bytes], T]:
        return self._json.decode

    @cached_property
    def _json(self) -> SchemaJson[T]:
        return json_of_dataclass(self.cls)


ModelT = TypeVar("ModelT", bound=BaseModel)


class PydanticJsonMessageSerializer(BuiltInSerializer[ModelT], Generic[ModelT]):
    """JSON for pydantic models, as their own `model_dump_json` writes it."""

    @cached_property
    def _encode(self) -> Callable[[ModelT], bytes]:
        if self.cls.model_dump_json is not BaseModel.model_dump_json:
            return lambda message: message.model_dump_json().encode()
        return self._json.encode

    @cached_property
    def _decode(self) -> Callable[[bytes], ModelT]:
        if getattr(self.cls.model_validate_json, "__func__", None) is not _MODEL_VALIDATE_JSON:
            return self.cls.model_validate_json
        return self._json.decode

    @cached_property
    def _json(self) -> SchemaJson[ModelT]:
        return json_of_model(self.cls)


MessageT = TypeVar("MessageT", bound=Message)


class ProtobufMessageSerializer(BuiltInSerializer[MessageT], Generic[MessageT]):
    """Protobuf messages, wrapped in `google.protobuf.Any`."""

    @property
    def data_content_type(self) -> str:
        return PROTOBUF_DATA_CONTENT_TYPE

    @cached_property
    def _encode(self) -> Callable[[MessageT], bytes]:
        return _wrapped

    @cached_property
    def _decode(self) -> Callable[[bytes], MessageT]:
        return self._unwrapped

    def _unwrapped(self, payload: bytes) -> MessageT:
        wrapper = AnyMessage()
        wrapper.ParseFromString(payload)
        message = self.cls()
        if not wrapper.Unpack(message):
            raise SerializationError(f"the payload holds {wrapper.TypeName() or 'no type'}")
        return message


class JsonValueMessageSerializer(BuiltInSerializer[T], Generic[T]):
    """JSON for bare `str int float bool None dict list`.

    As always in JSON, tuples inside come back as lists and keys as strings. What JSON cannot hold is an error.
    """

    @cached_property
    def _encode(self) -> Callable[[T], bytes]:
        return _json_bytes

    @cached_property
    def _decode(self) -> Callable[[bytes], T]:
        return self._checked

    def _checked(self, payload: bytes) -> T:
        value: Any = json.loads(payload.decode())
        if self.cls is float and value.__class__ is int:
            value = float(value)
        if value.__class__ is self.cls:
            return value
        raise SerializationError(f"the payload holds {type(value).__name__}")


def try_get_known_serializers_for_type(cls: Any) -> list[MessageSerializer[Any]]:
    """Return the built-in serializers for a class; none for what is no class of messages.

    A generic class with arguments counts as the class itself.
    """
    cls = types.NoneType if cls is None else get_origin(cls) or cls
    if not isinstance(cls, type):
        return []
    serializer: BuiltInSerializer[Any]
    if issubclass(cls, BaseModel):
        serializer = PydanticJsonMessageSerializer(cls)
    elif dataclasses.is_dataclass(cls):
        serializer = DataclassJsonMessageSerializer(cls)
    elif issubclass(cls, Message):
        serializer = ProtobufMessageSerializer(cls)
    elif cls in JSON_VALUE_CLASSES:
        serializer = JsonValueMessageSerializer(cls)
    else:
        return []
    # Found by itself, not chosen: it must not replace a serializer that somebody chose.
    serializer.automatic = True
    return [serializer]


def message_type_name(cls: Any) -> str | None:
    """Return the name of a class on the wire: the full name of a protobuf message, else the bare name."""
    if isinstance(cls, str):
        return cls
    if not isinstance(cls, type):
        return None
    if issubclass(cls, Message):
        return str(cls.DESCRIPTOR.full_name)
    return cls.__name__


def message_type_of(serializer: object) -> type | str | None:
    """Return the class that a serializer is for, the name if that is all there is, or None."""
    if isinstance(serializer, BuiltInSerializer):
        return serializer.cls
    own = getattr(serializer, "__orig_class__", None)
    candidates = [] if own is None else [own]
    for cls in type(serializer).__mro__:
        candidates += getattr(cls, "__dict__", {}).get("__orig_bases__", ())
    for base in candidates:
        origin = get_origin(base)
        if MessageSerializer in getattr(origin, "__mro__", ()):
            found = _message_argument(get_args(base))
            if found is not None:
                return found
    return None


_MODEL_VALIDATE_JSON = BaseModel.model_validate_json.__func__  # type: ignore[attr-defined]
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_COMPACT_ASCII = json.JSONEncoder(separators=(",", ":"))


def _json_bytes(value: Any) -> bytes:
    try:
        return _COMPACT.encode(value).encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form, but it has an escape.
        return _COMPACT_ASCII.encode(value).encode()


def _wrapped(message: Message) -> bytes:
    wrapper = AnyMessage()
    wrapper.Pack(message)
    return wrapper.SerializeToString()


def _message_argument(args: tuple[Any, ...]) -> type | str | None:
    if len(args) != 1:
        return None
    argument = get_origin(args[0]) or args[0]
    if argument is None:
        return types.NoneType
    if argument is Any or argument is object:
        return None
    forward_name: str | None = getattr(argument, "__forward_arg__", None)
    return argument if isinstance(argument, type) else forward_name


def _cause(error: Exception) -> Exception | None:
    """Leave out an error whose text quotes values: tracebacks show it, and they go to logs."""
    return None if isinstance(error, ValidationError) else error


def _without_contents(error: ValidationError) -> str:
    """Say what is wrong where, without the values: they are somebody's message."""
    return "; ".join(
        f"{'.'.join(str(part) for part in detail['loc']) or 'message'}: {detail['msg']}"
        for detail in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    )
