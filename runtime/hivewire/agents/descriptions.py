"""What the code of an agent type says about its messages, for others who don't have that code."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from hivewire.agents.base import BaseAgent
from hivewire.agents.handlers import Handler, handler_table
from hivewire.agents.hints import HintedClasses
from hivewire.agents.routed import RoutedAgent
from hivewire.exceptions import SerializationError
from hivewire.model.codecs import Codec
from hivewire.model.json_schemas import json_schema_of
from hivewire.model.serialization import (
    JSON_DATA_CONTENT_TYPE,
    BuiltInSerializer,
    RpcCall,
    message_type_name,
    try_get_known_serializers_for_type,
)
from hivewire.model.type_messages import (
    MAX_SCHEMA_BYTES,
    HandledMessage,
    MessageForm,
    MessageKind,
    TypeMessages,
)

__all__ = ["HANDLERS_OF_FACTORY", "described"]

HANDLERS_OF_FACTORY = "__hivewire_factory_handlers__"
"""An attribute of the factory of agents whose class does not tell which messages they handle."""

log = logging.getLogger("hivewire.registry")

_MAX_TEXT_CHARS = 500


def described(
    agent_type: str, agent_class: type[Any] | None, factory: Callable[..., Any] | None = None
) -> TypeMessages:
    """Say which messages a type handles, as far as its code says so. What can't be found out is left out. It never
    fails: nobody's registration depends on it."""
    try:
        return _described(agent_type, agent_class, factory)
    except Exception:  # a class of a program may break anything that is asked of it
        log.warning("which messages %s handles can't be found out", agent_type, exc_info=True)
        return TypeMessages(type=agent_type, any_message=True)


def _described(agent_type: str, agent_class: type[Any] | None, factory: Callable[..., Any] | None) -> TypeMessages:
    handlers: Sequence[Handler] | None = getattr(factory, HANDLERS_OF_FACTORY, None)
    forms = _Forms(agent_class)
    if handlers is not None:
        return _of_handlers(agent_type, handlers, forms, any_message=False, description="")
    if agent_class is None:
        return TypeMessages(type=agent_type, any_message=True)
    description = _first_line(agent_class.__dict__.get("__doc__"))
    if issubclass(agent_class, RoutedAgent):
        handlers = handler_table(agent_class).handlers
        any_message = any(
            getattr(agent_class, name) is not getattr(RoutedAgent, name)
            for name in ("on_message", "on_message_impl", "on_unhandled_message")
        )
        return _of_handlers(agent_type, handlers, forms, any_message=any_message, description=description)
    messages = tuple(
        HandledMessage(form=forms.of(cls, "validation"), any_reply=True) for cls in forms.declared_classes()
    )
    return TypeMessages(type=agent_type, messages=messages, any_message=not messages, description=description)


class _Forms:
    """What the messages of one agent class look like, each found out once."""

    def __init__(self, agent_class: type[Any] | None) -> None:
        self._codecs: dict[type, Codec] = {}
        if agent_class is not None and issubclass(agent_class, BaseAgent):
            try:
                self._codecs = {cls: Codec(serializers[0]) for cls, serializers in agent_class._handles_types()}
            except SerializationError:
                pass
        self._known: dict[tuple[type, str], MessageForm] = {}

    def declared_classes(self) -> list[type]:
        return list(self._codecs)

    def of(self, cls: type, mode: Literal["validation", "serialization"]) -> MessageForm:
        form = self._known.get((cls, mode))
        if form is None:
            form = self._known[cls, mode] = self._form_of(cls, mode)
        return form

    def _form_of(self, cls: type, mode: Literal["validation", "serialization"]) -> MessageForm:
        codec = self._codecs.get(cls)
        if codec is None:
            known = try_get_known_serializers_for_type(cls)
            if not known:
                return MessageForm(name=message_type_name(cls) or "", content_type="", note="No serializer is known.")
            codec = Codec(known[0])
        name, content_type = codec.type_name, codec.content_type
        if not isinstance(codec.serializer, BuiltInSerializer) or content_type != JSON_DATA_CONTENT_TYPE:
            return MessageForm(name=name, content_type=content_type, note="There is no JSON schema of it.")
        try:
            schema = json_schema_of(cls, mode=mode)
            size = len(json.dumps(schema, allow_nan=False))
        except Exception as error:
            note = f"It has no JSON schema: {type(error).__name__}."
            return MessageForm(name=name, content_type=content_type, note=note)
        if size > MAX_SCHEMA_BYTES:
            note = f"Its JSON schema has more than {MAX_SCHEMA_BYTES} bytes."
            return MessageForm(name=name, content_type=content_type, note=note)
        return MessageForm(name=name, content_type=content_type, schema=schema)


def _of_handlers(
    agent_type: str, handlers: Iterable[Handler], forms: _Forms, *, any_message: bool, description: str
) -> TypeMessages:
    by_class: dict[type, list[Handler]] = {}
    called_by_name: list[Handler] = []
    for handler in handlers:
        if handler.messages is None:
            called_by_name.append(handler)
            continue
        any_message |= handler.messages.accepts_any
        for cls in handler.messages.classes:
            by_class.setdefault(cls, []).append(handler)
    messages = [_message(forms.of(cls, "validation"), those, forms) for cls, those in by_class.items()]
    if called_by_name:
        messages.append(_message(_call_form(called_by_name), called_by_name, forms))
    messages.sort(key=lambda message: message.form.name)
    return TypeMessages(type=agent_type, messages=tuple(messages), any_message=any_message, description=description)


def _message(form: MessageForm, handlers: Sequence[Handler], forms: _Forms) -> HandledMessage:
    kinds = {handler.kind for handler in handlers}
    kind: MessageKind = kinds.pop() if len(kinds) == 1 else "any"
    answering = [handler.returns for handler in handlers if handler.kind != "event"]
    return HandledMessage(
        form=form,
        kind=kind,
        streams=any(handler.streams for handler in handlers),
        replies=tuple(forms.of(cls, "serialization") for cls in _classes(answering)),
        any_reply=any(returns.accepts_any for returns in answering),
        description=next(filter(None, (_first_line(handler.function.__doc__) for handler in handlers)), ""),
    )


def _call_form(handlers: Sequence[Handler]) -> MessageForm:
    names = sorted(handler.function.__name__ for handler in handlers)
    schema = {
        "type": "object",
        "properties": {"method": {"enum": names}, "kwargs": {"type": "object"}},
        "required": ["method"],
    }
    return MessageForm(name=RpcCall.__name__, content_type=JSON_DATA_CONTENT_TYPE, schema=schema)


def _classes(hinted: Iterable[HintedClasses]) -> list[type]:
    return list(dict.fromkeys(cls for each in hinted for cls in each.classes))


def _first_line(doc: object) -> str:
    lines = inspect.cleandoc(doc).splitlines() if isinstance(doc, str) else []
    return lines[0][:_MAX_TEXT_CHARS] if lines else ""
