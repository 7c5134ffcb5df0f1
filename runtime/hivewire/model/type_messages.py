"""Which messages an agent type handles, as its process tells others that don't know its classes.

It is for people and for tools that make documents or forms of it. Nothing is checked against it on the way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast, get_args

__all__ = ["MAX_RECORD_BYTES", "MAX_SCHEMA_BYTES", "HandledMessage", "MessageForm", "MessageKind", "TypeMessages"]

MessageKind = Literal["any", "event", "rpc"]

MAX_SCHEMA_BYTES: Final = 16 * 1024
"""A larger schema is left out."""

MAX_RECORD_BYTES: Final = 128 * 1024
"""Of a larger whole the largest schemas are left out, and then messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageForm:
    """What messages of one type look like. `schema` is a JSON schema; without one `note` says why there is none."""

    name: str
    content_type: str
    schema: Mapping[str, Any] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandledMessage:
    """A message that a type handles, and what it answers.

    `kind` tells whether it comes as a direct message (`rpc`), as an event, or as either. With `streams` the replies are
    what each chunk may be. `any_reply`: there may be others too.
    """

    form: MessageForm
    kind: MessageKind = "any"
    streams: bool = False
    replies: tuple[MessageForm, ...] = ()
    any_reply: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeMessages:
    """The messages of one agent type. `any_message`: it may handle others too."""

    type: str
    messages: tuple[HandledMessage, ...] = ()
    any_message: bool = False
    description: str = ""

    def handles_directly(self, type_name: str) -> bool:
        """Tell whether a direct message of a type may reach a handler."""
        return self.any_message or any(
            message.form.name == type_name and message.kind != "event" for message in self.messages
        )

    def to_json(self) -> bytes:
        """Write it in at most `MAX_RECORD_BYTES`, always in the same way."""
        fitting = self
        while len(payload := fitting._encoded()) > MAX_RECORD_BYTES:
            fitting = fitting._smaller()
        return payload

    @classmethod
    def from_json(cls, payload: bytes) -> TypeMessages:
        """Read what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is something else.
        """
        data: dict[str, Any] = json.loads(payload)
        return cls(
            type=str(data["type"]),
            messages=tuple(_message_from(message) for message in data["messages"]),
            any_message=bool(data["any"]),
            description=str(data.get("description", "")),
        )

    def _encoded(self) -> bytes:
        data = {
            "format": 1,
            "type": self.type,
            "description": self.description,
            "any": self.any_message,
            "messages": [_message_as_json(message) for message in self.messages],
        }
        return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()

    def _smaller(self) -> TypeMessages:
        sizes = [
            (len(json.dumps(form.schema)), number)
            for number, message in enumerate(self.messages)
            for form in (message.form, *message.replies)
            if form.schema is not None
        ]
        if not sizes:
            return replace(self, messages=self.messages[: len(self.messages) // 2], any_message=True)
        _, largest = max(sizes)
        messages = list(self.messages)
        message = messages[largest]
        messages[largest] = replace(
            message, form=_without_schema(message.form), replies=tuple(map(_without_schema, message.replies))
        )
        return replace(self, messages=tuple(messages))


def _without_schema(form: MessageForm) -> MessageForm:
    if form.schema is None:
        return form
    return replace(form, schema=None, note="The schemas of this agent type are too large together.")


def _message_as_json(message: HandledMessage) -> dict[str, Any]:
    return {
        **_form_as_json(message.form),
        "kind": message.kind,
        "streams": message.streams,
        "replies": [_form_as_json(reply) for reply in message.replies],
        "any_reply": message.any_reply,
        "description": message.description,
    }


def _form_as_json(form: MessageForm) -> dict[str, Any]:
    return {"name": form.name, "content_type": form.content_type, "schema": form.schema, "note": form.note}


def _message_from(data: Mapping[str, Any]) -> HandledMessage:
    kind = data["kind"]
    if kind not in get_args(MessageKind):
        raise ValueError(f"{kind!r} is not a kind of message")
    return HandledMessage(
        form=_form_from(data),
        kind=cast(MessageKind, kind),
        streams=bool(data["streams"]),
        replies=tuple(_form_from(reply) for reply in data["replies"]),
        any_reply=bool(data["any_reply"]),
        description=str(data.get("description", "")),
    )


def _form_from(data: Mapping[str, Any]) -> MessageForm:
    schema = data["schema"]
    if schema is not None and not isinstance(schema, dict):
        raise ValueError("a JSON schema is an object")
    return MessageForm(
        name=str(data["name"]), content_type=str(data["content_type"]), schema=schema, note=str(data.get("note", ""))
    )
