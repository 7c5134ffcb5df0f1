"""The decorators that turn methods into message handlers, and the table by which an agent class routes messages.

A decorated method stays callable as it was written. What the decorator learnt from its hints is kept beside it, and a
class's table is built once from all of them, so that routing a message is one dictionary look-up.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, NoReturn, TypeVar, cast, overload

from hivewire.agents.hints import HintedClasses, chunk_hint, classes_of_hint, resolved_hints
from hivewire.exceptions import CantHandleException
from hivewire.logging import ROOT_LOGGER_NAME
from hivewire.model.contexts import MessageContext
from hivewire.model.streams import is_stream

__all__ = ["Handler", "HandlerTable", "event", "handler_table", "message_handler", "rpc"]

_logger = logging.getLogger(ROOT_LOGGER_NAME)

HandlerT = TypeVar("HandlerT", bound=Callable[..., Coroutine[Any, Any, Any] | AsyncIterable[Any]])
EventHandlerT = TypeVar("EventHandlerT", bound=Callable[..., Coroutine[Any, Any, Any]])
Match = Callable[[Any, MessageContext], bool]
Kind = Literal["any", "event", "rpc"]


@overload
def message_handler(func: HandlerT) -> HandlerT: ...


@overload
def message_handler(
    func: None = None, *, strict: bool = True, match: Match | None = None
) -> Callable[[HandlerT], HandlerT]: ...


def message_handler(
    func: HandlerT | None = None, *, strict: bool = True, match: Match | None = None
) -> HandlerT | Callable[[HandlerT], HandlerT]:
    """Let an async method handle direct messages and events of the classes that its `message` parameter is hinted with.

    A method that yields, hinted `AsyncIterator[Chunk]`, answers with a stream: see `stream_message` of the runtimes.
    What it yields for an event is dropped.

    `match` is asked after the class fits and may refuse the message; the next handler in alphabetical order is tried
    then. A strict handler raises `CantHandleException` when it is called with another class and `ValueError` when it
    returns or yields a class that its return hint does not name; else both are warnings in the log.

    Raises:
        AssertionError: the function is not async, a hint of `message` or of the return value is missing, or that of one
            that yields is not `AsyncIterator`, `AsyncIterable` or `AsyncGenerator`.
    """
    return _decorated("any", func, strict, match)


@overload
def event(func: EventHandlerT) -> EventHandlerT: ...


@overload
def event(
    func: None = None, *, strict: bool = True, match: Match | None = None
) -> Callable[[EventHandlerT], EventHandlerT]: ...


def event(
    func: EventHandlerT | None = None, *, strict: bool = True, match: Match | None = None
) -> EventHandlerT | Callable[[EventHandlerT], EventHandlerT]:
    """As `message_handler`, for published messages only. A strict one raises `ValueError` when it returns a value, and
    none may yield."""
    return _decorated("event", func, strict, match)


@overload
def rpc(func: HandlerT) -> HandlerT: ...


@overload
def rpc(func: None = None, *, strict: bool = True, match: Match | None = None) -> Callable[[HandlerT], HandlerT]: ...


def rpc(
    func: HandlerT | None = None, *, strict: bool = True, match: Match | None = None
) -> HandlerT | Callable[[HandlerT], HandlerT]:
    """As `message_handler`, for direct messages only.

    A method that takes nothing but `self` and keywords handles `RpcCall` messages that carry its name.
    """
    return _decorated("rpc", func, strict, match)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Handler:
    """What a decorator learnt of a function. `messages` is None for a method that is called by name; `returns` is about
    each chunk if the method `streams`."""

    function: Callable[..., Any]
    kind: Kind
    messages: HintedClasses | None
    returns: HintedClasses
    streams: bool
    strict: bool
    match: Match | None

    def takes(self, message: object, ctx: MessageContext) -> bool:
        """Whether a message of a fitting class is for this handler."""
        if self.kind != "any" and (self.kind == "rpc") is not ctx.is_rpc:
            return False
        return self.match is None or bool(self.match(message, ctx))

    def check_message(self, message: object) -> None:
        if self.messages is None or self.messages.accepts_any or type(message) in self.messages.classes:
            return
        text = f"Message type {type(message).__name__} is none that {self.function.__qualname__} takes: {self.messages}"
        if self.strict:
            raise CantHandleException(text)
        _logger.warning(text)

    def checked_result(self, result: object) -> object:
        if self.kind == "event":
            if result is None:
                return None
            text = f"{self.function.__qualname__} handles events and returned {type(result).__name__} instead of None"
        elif self.returns.allows(result):
            return result
        else:
            did = "yielded" if self.streams else "returned"
            text = f"{self.function.__qualname__} {did} {type(result).__name__}, but its hint says {self.returns}"
        if self.strict:
            raise ValueError(text)
        _logger.warning(text)
        return None if self.kind == "event" else result

    async def checked_chunks(self, chunks: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """Yield what a function yields that streams."""
        async with aclosing(chunks):
            async for chunk in chunks:
                yield self.checked_result(chunk)


class Route:
    """A handler as one class has it.

    Usually the table already knows that the message fits, so the undecorated function is called and only its result is
    checked. Where something else wraps the decorated method, that is what has to be called.
    """

    __slots__ = ("_call", "_checked", "_returns", "_takes_all", "handler")

    def __init__(self, handler: Handler, attribute: Callable[..., Any], *, plain: bool) -> None:
        self.handler = handler
        self._call = handler.function if plain else attribute
        self._checked = not plain
        self._returns = plain and not handler.streams
        self._takes_all = handler.kind == "any" and handler.match is None

    def takes(self, message: object, ctx: MessageContext) -> bool:
        return self._takes_all or self.handler.takes(message, ctx)

    async def run(self, agent: object, message: object, ctx: MessageContext) -> Any:
        """Return what the handler returns, or the iterator over what it yields."""
        answer = self._call(agent, message, ctx)
        return self.handler.checked_result(await answer) if self._returns else await self._finished(answer)

    async def run_by_name(self, agent: object, kwargs: Mapping[str, Any]) -> Any:
        answer = self._call(agent, **kwargs)
        return self.handler.checked_result(await answer) if self._returns else await self._finished(answer)

    async def _finished(self, answer: Any) -> Any:
        if not self._checked:
            return self.handler.checked_chunks(answer)
        # What wraps a method that yields may be one that returns, and the other way round.
        return answer if is_stream(answer) else await answer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HandlerTable:
    """The handlers of one agent class: by exact message class, those for any message, and those called by name."""

    handlers: tuple[Handler, ...]
    by_class: Mapping[type, tuple[Route, ...]]
    for_any: tuple[Route, ...]
    by_name: Mapping[str, Route]


def handler_table(cls: type) -> HandlerTable:
    """Return the table of a class. It is built at the first call; later changes to the class do not show."""
    table: HandlerTable | None = cls.__dict__.get(_TABLE)
    if table is None:
        table = _built_table(cls)
        setattr(cls, _TABLE, table)
    return table


_HANDLER = "__hivewire_handler__"
_TABLE = "__hivewire_handlers__"


def _built_table(cls: type) -> HandlerTable:
    handlers: list[Handler] = []
    by_class: dict[type, list[Route]] = {}
    for_any: list[Route] = []
    by_name: dict[str, Route] = {}
    for name in dir(cls):
        attribute = getattr(cls, name, None)
        marked: tuple[Handler, object] | None = getattr(attribute, _HANDLER, None)
        if attribute is None or marked is None:
            continue
        handler, decorated = marked
        handlers.append(handler)
        route = Route(handler, attribute, plain=attribute is decorated)
        if handler.messages is None:
            by_name[name] = route
            continue
        if handler.messages.accepts_any:
            for_any.append(route)
        for message_class in handler.messages.classes:
            by_class.setdefault(message_class, []).append(route)
    return HandlerTable(
        handlers=tuple(handlers),
        by_class={message_class: tuple(routes) for message_class, routes in by_class.items()},
        for_any=tuple(for_any),
        by_name=by_name,
    )


def _decorated(
    kind: Kind, func: HandlerT | None, strict: bool, match: Match | None
) -> HandlerT | Callable[[HandlerT], HandlerT]:
    def decorate(function: HandlerT) -> HandlerT:
        return cast(HandlerT, _wrapped(_inspected(kind, function, strict, match)))

    return decorate if func is None else decorate(func)


def _inspected(kind: Kind, function: HandlerT, strict: bool, match: Match | None) -> Handler:
    name = getattr(function, "__qualname__", repr(function))
    streams = inspect.isasyncgenfunction(inspect.unwrap(function))
    if not streams and not inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise AssertionError(f"{name} must be an async function to handle messages")
    if streams and kind == "event":
        raise AssertionError(
            f"{name} yields, but nobody reads what an event's handler yields: let it return None, or decorate it with"
            " @message_handler or @rpc"
        )
    hints = resolved_hints(function)
    if "return" not in hints:
        raise AssertionError(f"return type not found in the signature of {name}: add a hint, None for no answer")
    returned = hints["return"]
    if streams:
        returned = chunk_hint(returned)
        if returned is None:
            raise AssertionError(
                f"{name} yields, so the hint of its return value must be AsyncIterator[...], with the class of what it"
                " yields"
            )
    returns = classes_of_hint(returned)
    if returns is None:
        _refuse_hint(name, "the return value", hints["return"])
    messages = None
    if not (kind == "rpc" and _is_called_by_name(function)):
        if "message" not in hints:
            raise AssertionError(f"message parameter not found in the signature of {name}: it needs a name and a hint")
        messages = classes_of_hint(hints["message"])
        if messages is None:
            _refuse_hint(name, "the message", hints["message"])
    return Handler(
        function=function, kind=kind, messages=messages, returns=returns, streams=streams, strict=strict, match=match
    )


def _refuse_hint(name: str, what: str, hint: object) -> NoReturn:
    raise AssertionError(f"The hint of {what} in {name} names no class: {hint!r}")


def _is_called_by_name(function: Callable[..., Any]) -> bool:
    _, *parameters = inspect.signature(function).parameters.values() or (None,)
    return all(parameter is not None and parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)


def _wrapped(handler: Handler) -> Any:
    function = handler.function
    call: Any
    if handler.streams:

        @wraps(function)
        async def call(self: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            if handler.messages is not None:
                handler.check_message(args[0] if args else kwargs.get("message"))
            async with aclosing(handler.checked_chunks(function(self, *args, **kwargs))) as chunks:
                async for chunk in chunks:
                    yield chunk

    elif handler.messages is None:

        @wraps(function)
        async def call(self: Any, **kwargs: Any) -> Any:
            return handler.checked_result(await function(self, **kwargs))

    else:

        @wraps(function)
        async def call(self: Any, message: Any, ctx: MessageContext) -> Any:
            handler.check_message(message)
            return handler.checked_result(await function(self, message, ctx))

    call.__dict__.update(
        {
            _HANDLER: (handler, call),
            # What AutoGen's handlers carry, for code that inspects them.
            "is_message_handler": True,
            "target_types": [] if handler.messages is None else list(handler.messages.classes),
            "produces_types": list(handler.returns.classes),
            "router": handler.takes,
        }
    )
    return call
