"""What is stored of an agent: its state, and how far its messages are handled, in one record.

One key's events are handled in the order of the stream, so one number is the whole memory of what was handled: an event
at or below it is never handled again, however late it comes. Both are written in one compare-and-set, so they can't
part.

The state may hold whatever the serializers know: JSON values stay as they are, and an object among them becomes
``{"$type": [type name, content type, text]}``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hivewire.exceptions import SerializationError
from hivewire.model.ids import AgentId
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.nats.formats import FORMAT, check_format

_TYPE: Final = "$type"
_ESCAPED: Final = "$value"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord:
    """The stored record of one agent.

    `state` is the encoded state as JSON text, None while the agent has saved none. `last` is the sequence of the last
    event that is handled, in the event stream that was made at `stream`; `dead` the one of an event that was given up,
    while it is the last. `writer` tells this write from all others.
    """

    agent: AgentId
    state: str | None
    stream: str
    last: int = 0
    dead: int | None = None
    writer: str = ""

    def has_handled(self, sequence: int, *, stream: str) -> bool:
        """Tell whether an event of the present stream is handled. Sequences of another stream mean nothing."""
        return self.stream == stream and sequence <= self.last

    def to_json(self) -> bytes:
        head = {
            "format": FORMAT,
            "agent": str(self.agent),
            "stream": self.stream,
            "last": self.last,
            "dead": self.dead,
            "writer": self.writer,
        }
        text = json.dumps(head, separators=(",", ":"))
        return f'{text[:-1]},"state":{"null" if self.state is None else self.state}}}'.encode()

    @classmethod
    def from_json(cls, payload: bytes) -> StateRecord:
        """Read a record.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote it.
            ValueError, KeyError, TypeError, AttributeError: it is not such a record.
        """
        data = json.loads(payload)
        check_format(data, f"the state of {data.get('agent')}")
        state = data["state"]
        return cls(
            agent=AgentId.from_str(data["agent"]),
            state=None if state is None else json.dumps(state, separators=(",", ":")),
            stream=data["stream"],
            last=int(data["last"]),
            dead=None if data["dead"] is None else int(data["dead"]),
            writer=data["writer"],
        )


def encode_state(state: Any, serializers: SerializerRegistry) -> str:
    """Write what `save_state` returned as JSON text.

    Raises:
        SerializationError: part of it is no JSON value, and nothing serializes it; the text says where it is.
    """
    try:
        return json.dumps(_plain(state, serializers, "state"), separators=(",", ":"))
    except RecursionError as error:
        raise SerializationError("state: it is nested too deeply, or contains itself") from error


def decode_state(text: str, serializers: SerializerRegistry, *, strict: bool = True) -> Any:
    """Read what `encode_state` wrote. Without `strict`, objects of unknown types become `UnknownPayload`s.

    Raises:
        SerializationError: an object in it can't be read by this process; the text says where it is.
    """
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
