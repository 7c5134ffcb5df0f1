"""Messages as JSON: what the user types in, and what comes back.

The command line has none of the user's classes. So a payload is sent as it was typed, under the name of its type, and
the payload of a reply is printed as it came.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hivewire.cli.errors import UsageError
from hivewire.model.codecs import normal_content_type
from hivewire.model.serialization import MessageSerializer, UnknownPayload


@dataclass(frozen=True, slots=True)
class JsonPayload:
    """A message of a type that this process doesn't know, as its JSON text."""

    text: bytes


class JsonPayloadSerializer(MessageSerializer[JsonPayload]):
    """Sends a `JsonPayload` under any type name."""

    def __init__(self, type_name: str) -> None:
        self._type_name = type_name

    @property
    def type_name(self) -> str:
        return self._type_name

    def serialize(self, message: JsonPayload) -> bytes:
        return message.text

    def deserialize(self, payload: bytes) -> JsonPayload:
        return JsonPayload(payload)


def read_message(argument: str) -> tuple[bytes, Any]:
    """Return a message as the JSON text that was given and as the value that it says.

    Args:
        argument: JSON, ``@`` and the name of a file that holds it, or ``-`` for standard input.

    Raises:
        UsageError: the file can't be read, or it is not JSON.
    """
    if argument == "-":
        where, payload = "standard input", sys.stdin.buffer.read()
    elif argument.startswith("@"):
        where, payload = argument[1:], _contents(Path(argument[1:]))
    else:
        where, payload = "the message", argument.encode(errors="surrogateescape")
    try:
        return payload.strip(), json.loads(payload)
    except (ValueError, RecursionError) as error:
        hint = "; a text needs double quotes, also inside of the shell's: '\"hello\"'" if _is_bare_word(payload) else ""
        raise UsageError(f"{where} is not JSON: {error}{hint}") from None


def reply_as_json(reply: Any) -> str:
    """Return a reply as JSON text. A payload that is not JSON becomes an object with its bytes in base64."""
    match reply:
        case JsonPayload(text):
            return text.decode()
        case UnknownPayload(type_name, content_type, payload):
            return payload_as_json(type_name, content_type, payload)
        case value:
            return json.dumps(value, ensure_ascii=False)


def payload_as_json(type_name: str, content_type: str, payload: bytes) -> str:
    """Return a payload as it is if it is JSON, else an object that holds it in base64."""
    if normal_content_type(content_type).endswith(("/json", "+json")):
        try:
            json.loads(payload)
        except (ValueError, RecursionError):
            pass
        else:
            return payload.decode()
    encoded = base64.b64encode(payload).decode()
    return json.dumps({"type": type_name, "content_type": content_type, "base64": encoded})


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from None


def _is_bare_word(payload: bytes) -> bool:
    return payload[:1].isalpha()
