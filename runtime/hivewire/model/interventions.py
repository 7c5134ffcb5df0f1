"""Code that sees messages on their way and may change or drop them."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from hivewire.exceptions import HivewireError, MessageDroppedException, register_exception
from hivewire.logging import EVENT_LOGGER_NAME, MessageDroppedEvent, MessageKind
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId

__all__ = ["DefaultInterventionHandler", "DropMessage", "InterventionChain", "InterventionHandler"]

_event_logger = logging.getLogger(EVENT_LOGGER_NAME)


@register_exception
class DropMessage(HivewireError):
    """Drops the message: an intervention handler raises it, or returns it, the class or an instance."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(*() if reason is None else (reason,))
        self.reason = reason


class InterventionHandler(Protocol):
    """Sees every message. Each hook returns the message to go on with, or drops it with `DropMessage`.

    To return None means to leave the message as it is. Hooks that a subclass leaves out do the same. `on_send` and
    `on_publish` may also be written as `(self, message, ctx)`.
    """

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        """Called for a direct message before it goes out."""
        return message

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        """Called for an event before it goes out."""
        return message

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        """Called for the answer to a direct message; `recipient` is who sent that one, None if no agent did."""
        return message


class DefaultInterventionHandler(InterventionHandler):
    """A handler that changes nothing, to derive from."""


class InterventionChain:
    """Runs the hooks of several handlers, each on what the one before it returned.

    A chain without handlers is false, so callers can skip it. `payload_text` says what the event of a dropped message
    shows of it, by default the name of its class.
    """

    def __init__(
        self,
        handlers: Sequence[InterventionHandler] | None,
        *,
        payload_text: Callable[[Any], str] = lambda message: type(message).__name__,
    ) -> None:
        handlers = list(handlers or ())
        self._payload_text = payload_text
        self._handlers = len(handlers)
        self._on_send = _hooks(handlers, "on_send", ("message_context", "recipient"))
        self._on_publish = _hooks(handlers, "on_publish", ("message_context",))
        self._on_response = _hooks(handlers, "on_response", ("sender", "recipient"))

    def __bool__(self) -> bool:
        return self._handlers > 0

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        """Return the direct message to go on with.

        Raises:
            MessageDroppedException: a handler dropped it.
            Exception: whatever a handler raised.
        """
        return await self._run(
            self._on_send,
            message,
            {"message_context": message_context, "recipient": recipient},
            MessageKind.DIRECT,
            (message_context.sender, recipient),
        )

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        """Return the event to go on with.

        Raises:
            MessageDroppedException: a handler dropped it.
            Exception: whatever a handler raised.
        """
        return await self._run(
            self._on_publish,
            message,
            {"message_context": message_context},
            MessageKind.PUBLISH,
            (message_context.sender, message_context.topic_id),
        )

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        """Return the answer to go on with.

        Raises:
            MessageDroppedException: a handler dropped it.
            Exception: whatever a handler raised.
        """
        return await self._run(
            self._on_response,
            message,
            {"sender": sender, "recipient": recipient},
            MessageKind.RESPOND,
            (sender, recipient),
        )

    async def _run(
        self,
        hooks: Sequence[_Hook],
        message: Any,
        values: dict[str, Any],
        kind: MessageKind,
        ends: tuple[object | None, object | None],
    ) -> Any:
        for hook in hooks:
            try:
                result = await hook(message, values)
            except DropMessage as drop:
                raise self._dropped(message, drop.reason, kind, ends) from drop
            if result is DropMessage or isinstance(result, DropMessage):
                reason = result.reason if isinstance(result, DropMessage) else None
                raise self._dropped(message, reason, kind, ends)
            if result is not None:
                message = result
            elif message is not None:
                warnings.warn(
                    f"{hook.name} returned None: the message stays as it is. Return the message, or DropMessage.",
                    RuntimeWarning,
                    stacklevel=3,
                )
        return message

    def _dropped(
        self, message: Any, reason: str | None, kind: MessageKind, ends: tuple[object | None, object | None]
    ) -> MessageDroppedException:
        if _event_logger.isEnabledFor(logging.INFO):
            sender, receiver = ends
            _event_logger.info(
                MessageDroppedEvent(
                    payload=self._payload_text(message), sender=sender, receiver=receiver, kind=kind, reason=reason
                )
            )
        return MessageDroppedException(reason)


class _Hook:
    """One hook of one handler, and how its parameters are named."""

    __slots__ = ("_function", "_keywords", "_positional", "name")

    def __init__(self, function: Callable[..., Awaitable[Any]], values: Sequence[str]) -> None:
        self.name = getattr(function, "__qualname__", repr(function))
        self._function = function
        self._positional: list[str] = []
        self._keywords: dict[str, str] = {}
        parameters = list(inspect.signature(function).parameters.values())[1:]
        # What no parameter asks for by name goes, in order, to those with names of their own, such as `ctx`.
        unnamed = [value for value in values if value not in {parameter.name for parameter in parameters}]
        for parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                self._keywords.update({value: value for value in unnamed})
            elif parameter.kind is parameter.VAR_POSITIONAL:
                continue
            elif parameter.name in values:
                self._pass(parameter, parameter.name)
            elif unnamed:
                self._pass(parameter, unnamed.pop(0))

    def __call__(self, message: Any, values: dict[str, Any]) -> Awaitable[Any]:
        return self._function(
            message,
            *[values[value] for value in self._positional],
            **{name: values[value] for name, value in self._keywords.items()},
        )

    def _pass(self, parameter: inspect.Parameter, value: str) -> None:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            self._positional.append(value)
        else:
            self._keywords[parameter.name] = value


def _hooks(handlers: Sequence[InterventionHandler], method: str, values: Sequence[str]) -> list[_Hook]:
    default = getattr(InterventionHandler, method)
    functions = [getattr(handler, method, None) for handler in handlers]
    return [
        _Hook(function, values)
        for function in functions
        if function is not None and getattr(function, "__func__", None) is not default
    ]
