"""Logger names and the structured events that programs read from them.

The three names are the ones that existing AutoGen logging set-ups configure. An event is logged as the message of a
record (`logger.info(event)`), so a handler may read `record.msg.kwargs` or print the record, which gives one line of
JSON. Hivewire's own log lines go to loggers below `hivewire` and name types and ids, never message contents.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any, Protocol

__all__ = [
    "EVENT_LOGGER_NAME",
    "ROOT_LOGGER_NAME",
    "TRACE_LOGGER_NAME",
    "AgentConstructionExceptionEvent",
    "DeliveryStage",
    "HandledMessage",
    "LLMCallEvent",
    "LLMStreamEndEvent",
    "LLMStreamStartEvent",
    "MessageDroppedEvent",
    "MessageEvent",
    "MessageHandlerExceptionEvent",
    "MessageKind",
    "ToolCallEvent",
    "current_agent_id",
    "current_message",
    "find_messages_with",
    "lines_about",
    "message_in_hand",
]

ROOT_LOGGER_NAME = "autogen_core"
"""The logger above the other two: a level or a handler set here holds for them."""

EVENT_LOGGER_NAME = "autogen_core.events"
"""Structured events for programs."""

TRACE_LOGGER_NAME = "autogen_core.trace"
"""Lines for developers, not meant to be parsed."""

current_agent_id: ContextVar[object | None] = ContextVar("hivewire_current_agent_id", default=None)
"""Id of the agent whose handler is running, None outside of handlers. Its `str()` is what events carry."""


class HandledMessage(Protocol):
    """What a log line names of the message that it is about. It is read only when there is a line to write."""

    @property
    def agent(self) -> object:
        """Id of the agent that the message is for."""

    @property
    def message_id(self) -> str: ...

    @property
    def trace(self) -> Mapping[str, str]:
        """The headers that the message came with: `traceparent`, if it belongs to a trace."""


current_message: ContextVar[HandledMessage | None] = ContextVar("hivewire_current_message", default=None)
"""The message that is being handled, or that what runs now is about: its retries and its end are part of it."""

_finders: list[Callable[[], HandledMessage | None]] = [current_message.get]


def find_messages_with(find: Callable[[], HandledMessage | None]) -> None:
    """Let a runtime say by itself which of its messages is being handled, if it keeps that anyway: asking when there is
    a line costs its messages nothing."""
    _finders.append(find)


def message_in_hand() -> HandledMessage | None:
    """Return the message that log lines name here and now."""
    return next((found for find in _finders if (found := find()) is not None), None)


@contextmanager
def lines_about(message: HandledMessage) -> Iterator[None]:
    """Let the log lines of the body of the `with` statement name a message."""
    token = current_message.set(message)
    try:
        yield
    finally:
        current_message.reset(token)


class MessageKind(Enum):
    """How a message travels."""

    DIRECT = 1
    PUBLISH = 2
    RESPOND = 3


class DeliveryStage(Enum):
    """Which end of its way a message has reached."""

    SEND = 1
    DELIVER = 2


class _Event:
    """Hold an event's fields in `kwargs`; `str()` is their JSON."""

    def __init__(self, event_type: str, extra: dict[str, Any], /, **fields: Any) -> None:
        self.kwargs: dict[str, Any] = {**extra, **fields, "type": event_type}

    def __str__(self) -> str:
        # A log line must not fail for a value that JSON has no form for.
        return json.dumps(self.kwargs, default=str)


class _UsageEvent(_Event):
    @property
    def prompt_tokens(self) -> int:
        """Tokens that the prompt took."""
        return int(self.kwargs["prompt_tokens"])

    @property
    def completion_tokens(self) -> int:
        """Tokens that the model wrote."""
        return int(self.kwargs["completion_tokens"])


class LLMCallEvent(_UsageEvent):
    """A model client got a complete answer. Further keywords become fields."""

    def __init__(
        self,
        *,
        messages: list[dict[str, Any]],
        response: dict[str, Any],
        prompt_tokens: int,
        completion_tokens: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            "LLMCall",
            kwargs,
            messages=messages,
            response=response,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            agent_id=_text(current_agent_id.get()),
        )


class LLMStreamStartEvent(_Event):
    """A model client opened a stream. Further keywords become fields."""

    def __init__(self, *, messages: list[dict[str, Any]], **kwargs: Any) -> None:
        super().__init__("LLMStreamStart", kwargs, messages=messages, agent_id=_text(current_agent_id.get()))


class LLMStreamEndEvent(_UsageEvent):
    """A model client read a stream to its end. Further keywords become fields."""

    def __init__(self, *, response: dict[str, Any], prompt_tokens: int, completion_tokens: int, **kwargs: Any) -> None:
        super().__init__(
            "LLMStreamEnd",
            kwargs,
            response=response,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            agent_id=_text(current_agent_id.get()),
        )


class ToolCallEvent(_Event):
    """A tool ran and gave a result."""

    def __init__(self, *, tool_name: str, arguments: dict[str, Any], result: str) -> None:
        agent_id = _text(current_agent_id.get())
        super().__init__("ToolCall", {}, tool_name=tool_name, arguments=arguments, result=result, agent_id=agent_id)


class MessageEvent(_Event):
    """A message was sent or delivered. Ids are kept as text; further keywords become fields."""

    def __init__(
        self,
        *,
        payload: str,
        sender: object | None,
        receiver: object | None,
        kind: MessageKind,
        delivery_stage: DeliveryStage,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            "Message",
            kwargs,
            payload=payload,
            sender=_text(sender),
            receiver=_text(receiver),
            kind=str(kind),
            delivery_stage=str(delivery_stage),
        )


class MessageDroppedEvent(_Event):
    """An intervention handler dropped a message. Further keywords, such as `reason`, become fields."""

    def __init__(
        self, *, payload: str, sender: object | None, receiver: object | None, kind: MessageKind, **kwargs: Any
    ) -> None:
        super().__init__(
            "MessageDropped",
            kwargs,
            payload=payload,
            sender=_text(sender),
            receiver=_text(receiver),
            kind=str(kind),
        )


class MessageHandlerExceptionEvent(_Event):
    """A message handler raised. Further keywords become fields."""

    def __init__(self, *, payload: str, handling_agent: object, exception: BaseException, **kwargs: Any) -> None:
        super().__init__(
            "MessageHandlerException",
            kwargs,
            payload=payload,
            handling_agent=str(handling_agent),
            exception=_exception_text(exception),
        )


class AgentConstructionExceptionEvent(_Event):
    """An agent's factory raised. Further keywords become fields."""

    def __init__(self, *, agent_id: object, exception: BaseException, **kwargs: Any) -> None:
        super().__init__(
            "AgentConstructionException", kwargs, agent_id=str(agent_id), exception=_exception_text(exception)
        )


def _text(identity: object | None) -> str | None:
    return None if identity is None else str(identity)


def _exception_text(exception: BaseException) -> str:
    # `raise ValueError()` has no text of its own, and an empty field would hide which error it was.
    return str(exception) or repr(exception)
