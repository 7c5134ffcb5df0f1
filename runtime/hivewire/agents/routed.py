"""Agents whose messages find their handlers by class."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from hivewire.agents.base import BaseAgent, HandledType
from hivewire.agents.handlers import HandlerTable, handler_table
from hivewire.exceptions import CantHandleException, SerializationError
from hivewire.logging import ROOT_LOGGER_NAME
from hivewire.model.contexts import MessageContext
from hivewire.model.serialization import RpcCall, try_get_known_serializers_for_type

__all__ = ["RoutedAgent"]

_logger = logging.getLogger(ROOT_LOGGER_NAME)


class RoutedAgent(BaseAgent):
    """An agent with one method per kind of message, decorated with `message_handler`, `event` or `rpc`.

    A message goes to the handlers whose hint names its exact class (a base class does not count), in alphabetical
    order of their names, and the first one that takes it is called; then likewise to those hinted `Any`; then to
    `on_unhandled_message`. An `RpcCall` goes first to the `rpc` method that it names.
    """

    def __init__(self, *args: Any, description: str | None = None) -> None:
        super().__init__(*args, description=description)

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        """Route a message to its handler. Add handlers instead of overriding this."""
        table = handler_table(type(self))
        for route in table.by_class.get(type(message), ()):
            if route.takes(message, ctx):
                return await route.run(self, message, ctx)
        if type(message) is RpcCall and message.method in table.by_name:
            route = table.by_name[message.method]
            if route.takes(message, ctx):
                return await route.run_by_name(self, message.kwargs)
        for route in table.for_any:
            if route.takes(message, ctx):
                return await route.run(self, message, ctx)
        if type(message) is RpcCall:
            raise CantHandleException(f"{type(self).__name__} has no rpc method named {message.method!r}")
        return await self.on_unhandled_message(message, ctx)

    async def on_unhandled_message(self, message: Any, ctx: MessageContext) -> Any:
        """Called for a message that no handler takes. The default logs its type; the sender gets None.

        Raises:
            CantHandleException: the runtime has the option `strict_unhandled`.
        """
        type_name = type(message).__name__
        if getattr(self._runtime, "strict_unhandled", False) is True:
            raise CantHandleException(f"Agent {self._id} ({type(self).__name__}) has no handler for {type_name}")
        _logger.info("Unhandled message: %s for agent %s", type_name, self._id)
        return None

    @classmethod
    def _handles_types(cls) -> list[HandledType]:
        """Return the message and the answer types of all handlers, each with the serializers for it.

        An answer type that nothing serializes is left out: it matters only to a caller in another process, who then
        gets the error.

        Raises:
            SerializationError: there is none for a message type.
        """
        found = super()._handles_types()
        known = {message_type for message_type, _ in found}
        table: HandlerTable = handler_table(cls)
        required = [message_type for handler in table.handlers for message_type in _messages_of(handler.messages)]
        answers = [answer_type for handler in table.handlers for answer_type in handler.returns.classes]
        if table.by_name:
            required.append(RpcCall)
        for message_type in required + answers:
            if message_type in known:
                continue
            known.add(message_type)
            serializers = list(try_get_known_serializers_for_type(message_type))
            if serializers:
                found.append((message_type, serializers))
            elif message_type in required:
                raise SerializationError(
                    f"No serializers found for type {message_type!r}, which {cls.__name__} handles: make it a"
                    " dataclass, a pydantic model or a protobuf message, or declare a serializer with @handles"
                )
        return found


def _messages_of(hinted: Any) -> Sequence[type]:
    return () if hinted is None else hinted.classes
