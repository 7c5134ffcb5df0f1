"""Agents that are a function."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hivewire.agents.base import BaseAgent
from hivewire.agents.descriptions import HANDLERS_OF_FACTORY
from hivewire.agents.handlers import Handler
from hivewire.agents.hints import HintedClasses, chunk_hint, classes_of_hint, resolved_hints
from hivewire.agents.registration import (
    InstanceAdopter,
    add_missing_subscriptions,
    direct_subscription,
    made_subscriptions,
    register_agent_type,
)
from hivewire.exceptions import CantHandleException
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import AgentInstantiationContext, MessageContext
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.runtime import AgentRuntime
from hivewire.model.serialization import MessageSerializer, try_get_known_serializers_for_type
from hivewire.model.streams import MessageStream, is_stream
from hivewire.model.subscriptions import Subscription
from hivewire.model.topics import TopicId

__all__ = ["ClosureAgent", "ClosureContext", "UnknownTypePolicy"]

UnknownTypePolicy = Literal["error", "warn", "ignore"]
Closure = Callable[..., Awaitable[Any] | AsyncIterable[Any]]


class ClosureContext(Protocol):
    """What a closure gets to act with."""

    @property
    def id(self) -> AgentId: ...

    async def send_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> Any: ...

    def stream_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
        resumable: bool = False,
    ) -> MessageStream: ...

    async def publish_message(
        self,
        message: Any,
        topic_id: TopicId,
        *,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
    ) -> None: ...


class ClosureAgent(BaseAgent):
    """An agent that calls a function for each message: `closure(ctx, message)` or `closure(ctx, message, context)`.

    A function that yields, hinted `AsyncIterator[Chunk]`, answers with a stream.
    The hint of the message says which classes it takes, `Any` means all. What happens to others is the
    `unknown_type_policy`: "warn" warns and answers None, "error" raises `CantHandleException`, "ignore" calls the
    closure all the same.

    Within a factory the arguments are `(description, closure)`. Elsewhere they are `(name, closure, runtime)`: the
    agent becomes `AgentId(name, "default")` of that runtime, at once where the runtime can do so without awaiting, else
    by `await agent.register()`.

    Raises:
        RuntimeError: neither a runtime is given nor a factory runs.
        AssertionError: the closure takes other parameters, or lacks a hint of the message or of the return value.
        ValueError: the name is taken in that runtime.
    """

    def __init__(
        self,
        description: str,
        closure: Closure,
        runtime: AgentRuntime | None = None,
        *,
        unknown_type_policy: UnknownTypePolicy = "warn",
    ) -> None:
        if runtime is None and not AgentInstantiationContext.is_in_factory_call():
            raise RuntimeError(
                "A ClosureAgent is made in a factory that a runtime calls, or with the runtime as its third argument"
            )
        self._shape = _shape_of(closure)
        self._closure = closure
        self._unknown_type_policy = unknown_type_policy
        self._adopted = False
        super().__init__(description)
        if runtime is not None and not AgentInstantiationContext.is_in_factory_call():
            self._bind(AgentId(description, "default"), runtime)
            # On such an agent, `register` is about this object; the class method stays reachable through the class.
            self.__dict__["register"] = self._register_self
            self._adopt(runtime)

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        messages = self._shape.messages
        if not (messages.accepts_any or type(message) in messages.classes):
            text = f"Message type {type(message).__name__} is none that {self._id} takes: {messages}"
            if self._unknown_type_policy == "error":
                raise CantHandleException(text)
            if self._unknown_type_policy == "warn":
                warnings.warn(f"{text}. Set unknown_type_policy to 'error' or 'ignore' to change this", stacklevel=1)
                return None
        answer: Any = self._closure(self, message, ctx) if self._shape.wants_context else self._closure(self, message)
        return answer if is_stream(answer) else await answer

    @classmethod
    async def register_closure(
        cls,
        runtime: AgentRuntime,
        type: str | AgentType,
        closure: Closure,
        *,
        unknown_type_policy: UnknownTypePolicy = "warn",
        skip_direct_message_subscription: bool = False,
        description: str = "",
        subscriptions: Callable[[], list[Subscription] | Awaitable[list[Subscription]]] | None = None,
    ) -> AgentType:
        """Register a closure as an agent type: each key is an agent that calls it. All or nothing.

        `subscriptions` returns subscriptions, or an awaitable of them, for the type that is being registered.

        Raises:
            ValueError: the type is not a valid one or is taken, a subscription is there already, or the policy is none
                of the three.
            AssertionError: as for the class.
        """
        if unknown_type_policy not in ("error", "warn", "ignore"):
            raise ValueError(f"unknown_type_policy must be 'error', 'warn' or 'ignore', not {unknown_type_policy!r}")
        agent_type = type if isinstance(type, AgentType) else AgentType(type)
        shape = _shape_of(closure)
        made = await made_subscriptions(agent_type, [] if subscriptions is None else [subscriptions])
        if not skip_direct_message_subscription:
            made.append(direct_subscription(agent_type.type))

        def factory() -> ClosureAgent:
            return cls(description, closure, unknown_type_policy=unknown_type_policy)

        setattr(factory, HANDLERS_OF_FACTORY, (_handler_of(closure, shape),))
        return await register_agent_type(
            runtime,
            agent_type,
            factory,
            expected_class=cls,
            subscriptions=made,
            serializers=_serializers_of(shape),
        )

    async def _register_self(self) -> AgentId:
        """Make sure that the runtime knows this agent, and return its id. May be called again."""
        if self._adopted:
            # An await on the runtime: it completes what had to wait for one.
            return await self.runtime.get(self.id, lazy=False)
        await self.runtime.register_agent_instance(self, self.id)
        self._adopted = True
        await add_missing_subscriptions(self.runtime, [direct_subscription(self.id.type)])
        serializers = _serializers_of(self._shape)
        if serializers:
            self.runtime.add_message_serializer(serializers)
        return self.id

    def _adopt(self, runtime: AgentRuntime) -> None:
        if isinstance(runtime, InstanceAdopter):
            runtime.adopt_instance(
                self,
                self.id,
                subscriptions=[direct_subscription(self.id.type)],
                serializers=_serializers_of(self._shape),
            )
            self._adopted = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    messages: HintedClasses
    returns: HintedClasses
    wants_context: bool


def _shape_of(closure: Closure) -> _Shape:
    parameters = [
        parameter
        for parameter in inspect.signature(closure).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(parameters) not in (2, 3):
        raise AssertionError("A closure takes (ctx, message) or (ctx, message, message_context)")
    hints = resolved_hints(closure)
    messages = _classes(hints, parameters[1].name, "the message")
    if "return" in hints and inspect.isasyncgenfunction(closure):
        hints["return"] = chunk_hint(hints["return"])
        if hints["return"] is None:
            raise AssertionError(
                "A closure that yields returns an AsyncIterator[...], with the class of what it yields"
            )
    returns = _classes(hints, "return", "what it returns, None if it returns nothing")
    return _Shape(messages=messages, returns=returns, wants_context=len(parameters) == 3)


def _handler_of(closure: Closure, shape: _Shape) -> Handler:
    return Handler(
        function=closure,
        kind="any",
        messages=shape.messages,
        returns=shape.returns,
        streams=inspect.isasyncgenfunction(closure),
        strict=False,
        match=None,
    )


def _classes(hints: Mapping[str, Any], name: str, what: str) -> HintedClasses:
    classes = classes_of_hint(hints[name]) if name in hints else None
    if classes is None:
        raise AssertionError(f"{name} not found in the closure's signature: it needs a hint for {what}")
    return classes


def _serializers_of(shape: _Shape) -> list[MessageSerializer[Any]]:
    return [
        serializer
        for message_type in dict.fromkeys(shape.messages.classes + shape.returns.classes)
        for serializer in try_get_known_serializers_for_type(message_type)
    ]
