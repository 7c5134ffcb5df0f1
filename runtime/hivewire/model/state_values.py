"""The states of agents as JSON text.

A state may hold whatever the serializers know: JSON values stay as they are, and an object among them becomes
``{"$type": [type name, content type, text]}``. A process that passes states on for others reads none of it: there a
state is a `StateText` from end to end.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from hivewire.exceptions import SerializationError
from hivewire.model.serializer_registry import SerializerRegistry

__all__ = ["StateText", "decode_state", "encode_state"]

_TYPE: Final = "$type"
_ESCAPED: Final = "$value"


class StateText(str):
    """A state that is text already."""

    __slots__ = ()


def encode_state(state: Any, serializers: SerializerRegistry) -> str:
    """Write what `save_state` returned as JSON text.

    Raises:
        SerializationError: part of it is no JSON value, and nothing serializes it; the text says where it is.
    """
    if isinstance(state, StateText):
        return str(state)
    try:
        return json.dumps(_plain(state, serializers, "state"), separators=(",", ":"))
    except RecursionError as error:
        raise SerializationError("state: it is nested too deeply, or contains itself") from error


def decode_state(text: str, serializers: SerializerRegistry, *, strict: bool = True) -> Any:
    """Read what `encode_state` wrote. Without `strict`, objects of unknown types become `UnknownPayload`s.

    Raises:
        SerializationError: an object in it can't be read by this process; the text says where it is.
    """
    if serializers.passes_on:
        return StateText(text)
    return _rebuilt(json.loads(text), serializers, "state", strict)


def _plain(value: Any, serializers: SerializerRegistry, where: str) -> Any:
    if value is None or value.__class__ in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise SerializationError(f"{where}: the key {name!r} of a dict is not a text, which JSON needs")
        plain = {name: _plain(each, serializers, f"{where}[{name!r}]") for name, each in value.items()}
        return {_ESCAPED: plain} if plain.keys() & {_TYPE, _ESCAPED} else plain
    if value.__class__ in (list, tuple):
        return [_plain(each, serializers, f"{where}[{number}]") for number, each in enumerate(value)]
    try:
        encoded = serializers.encode(value)
    except SerializationError as error:
        raise SerializationError(f"{where}: {error}") from error
    try:
        return {_TYPE: [encoded.type_name, encoded.content_type, encoded.payload.decode()]}
    except UnicodeDecodeError:
        return {_TYPE: [encoded.type_name, encoded.content_type, base64.b64encode(encoded.payload).decode(), "base64"]}


def _rebuilt(value: Any, serializers: SerializerRegistry, where: str, strict: bool) -> Any:
    if isinstance(value, list):
        return [_rebuilt(each, serializers, f"{where}[{number}]", strict) for number, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TYPE}:
        return _object(value[_TYPE], serializers, where, strict)
    if value.keys() == {_ESCAPED} and isinstance(value[_ESCAPED], dict):
        value = value[_ESCAPED]
    return {name: _rebuilt(each, serializers, f"{where}[{name!r}]", strict) for name, each in value.items()}


def _object(described: Any, serializers: SerializerRegistry, where: str, strict: bool) -> Any:
    try:
        type_name, content_type, text, *coding = described
        payload = base64.b64decode(text, validate=True) if coding else text.encode()
    except (ValueError, TypeError, AttributeError) as error:
        raise SerializationError(f"{where}: {described!r:.80} does not describe an object") from error
    try:
        return serializers.decode(payload, type_name=type_name, content_type=content_type, strict=strict)
    except SerializationError as error:
        raise SerializationError(f"{where}: {error}") from error
