"""What a message brings along, and what code may ask about where it runs.

The static classes keep their value in a context variable, so that it follows the `await`s and tasks of one handler,
factory or subscription callback and never leaks into another.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, Protocol, TypeVar, cast

from hivewire.logging import current_agent_id
from hivewire.model.cancellation import CancellationToken
from hivewire.model.ids import AgentId, AgentType

if TYPE_CHECKING:
    from hivewire.model.runtime import AgentRuntime
    from hivewire.model.topics import TopicId

__all__ = [
    "AgentInstantiationContext",
    "MessageContext",
    "MessageHandlerContext",
    "NestedCalls",
    "SubscriptionInstantiationContext",
    "TurnContext",
    "current_turn",
    "enter_turn",
    "outgoing_context",
]

T = TypeVar("T")


@dataclass
class MessageContext:
    """What a handler learns about its message.

    A direct message has `is_rpc` true and no `topic_id`; an event has `is_rpc` false and one. `sender` is None when no
    agent sent it. `message_id` is the caller's, unchanged on redelivery.
    """

    sender: AgentId | None
    topic_id: TopicId | None
    is_rpc: bool
    cancellation_token: CancellationToken
    message_id: str


def outgoing_context(
    sender: AgentId | None, topic: TopicId | None, token: CancellationToken | None, message_id: str
) -> MessageContext:
    """Return what intervention handlers learn about a message on its way out."""
    return MessageContext(
        sender=sender,
        topic_id=topic,
        is_rpc=topic is None,
        cancellation_token=token or CancellationToken(),
        message_id=message_id,
    )


class MessageHandlerContext:
    """Tells, inside a message handler, which agent it belongs to. Never instantiated."""

    def __init__(self) -> None:
        _refuse_instance(type(self))

    @classmethod
    def agent_id(cls) -> AgentId:
        """Return the id of the agent whose handler runs.

        Raises:
            RuntimeError: no handler runs.
        """
        agent_id = cls.current()
        if agent_id is None:
            raise RuntimeError("MessageHandlerContext.agent_id() must be called within a message handler")
        return agent_id

    @classmethod
    def current(cls) -> AgentId | None:
        """Return the id of the agent whose handler runs, or None outside of handlers."""
        return cast("AgentId | None", current_agent_id.get())

    @classmethod
    def populate_context(cls, ctx: AgentId) -> AbstractContextManager[None]:
        """Run the body of the `with` statement as if in a handler of this agent."""
        return _Populated(current_agent_id, ctx)


_instantiation: ContextVar[tuple[AgentRuntime, AgentId] | None] = ContextVar("hivewire_instantiation", default=None)


class AgentInstantiationContext:
    """Tells, inside an agent factory or constructor, the runtime and the id of the new agent. Never instantiated."""

    def __init__(self) -> None:
        _refuse_instance(type(self))

    @classmethod
    def current_runtime(cls) -> AgentRuntime:
        """Return the runtime that creates the agent.

        Raises:
            RuntimeError: no factory runs.
        """
        return cls._current("current_runtime")[0]

    @classmethod
    def current_agent_id(cls) -> AgentId:
        """Return the id of the agent that is created.

        Raises:
            RuntimeError: no factory runs.
        """
        return cls._current("current_agent_id")[1]

    @classmethod
    def is_in_factory_call(cls) -> bool:
        return _instantiation.get() is not None

    @classmethod
    def populate_context(cls, ctx: tuple[AgentRuntime, AgentId]) -> AbstractContextManager[None]:
        """Run the body of the `with` statement as if in a factory of this runtime and id."""
        return _Populated(_instantiation, ctx)

    @classmethod
    def _current(cls, method: str) -> tuple[AgentRuntime, AgentId]:
        current = _instantiation.get()
        if current is None:
            raise RuntimeError(
                f"AgentInstantiationContext.{method}() must be called while a runtime creates an agent: in its factory"
                " or constructor. Register a factory instead of creating the agent yourself."
            )
        return current


_subscription: ContextVar[AgentType | None] = ContextVar("hivewire_subscription", default=None)


class SubscriptionInstantiationContext:
    """Tells, while subscriptions of a type are made, which agent type is being registered. Never instantiated."""

    def __init__(self) -> None:
        _refuse_instance(type(self))

    @classmethod
    def agent_type(cls) -> AgentType:
        """Return the agent type that is being registered.

        Raises:
            RuntimeError: no registration runs.
        """
        current = _subscription.get()
        if current is None:
            raise RuntimeError(
                "SubscriptionInstantiationContext.agent_type() must be called while an agent type is registered"
            )
        return current

    @classmethod
    def populate_context(cls, ctx: AgentType) -> AbstractContextManager[None]:
        """Run the body of the `with` statement as if this agent type were being registered."""
        return _Populated(_subscription, ctx)


class NestedCalls(Protocol):
    """What a turn gives up while it awaits a call of its own, and takes up again after it."""

    def step_out(self) -> None: ...

    async def step_in(self) -> None: ...


@dataclass(slots=True)
class TurnContext:
    """Which turn runs. `chain` names all turns above this one and this one itself, the outermost first.

    `origin` names what the turn handles and for whom: it is the same when the turn is run again. `published` counts
    what the turn has published so far. Calls of the turn end at `deadline`, on the monotonic clock, at the latest, and
    are cancelled with its `token`. Once that was cancelled, the turn may go on until `ends_at`. What tasks call that it
    left behind, when it has `ended`, is bound by none of these.
    """

    turn_id: str
    chain: tuple[str, ...]
    origin: str = ""
    nested: NestedCalls | None = None
    published: int = 0
    deadline: float = math.inf
    token: CancellationToken = field(default_factory=CancellationToken, compare=False)
    ends_at: float = math.inf
    ended: bool = False

    def next_id(self) -> str:
        """Return the id of what the turn publishes next, made of what it handles, for whom, and a count."""
        number, self.published = self.published, self.published + 1
        return sha256(f"{len(self.origin)}:{self.origin}/{number}".encode()).hexdigest()[:32]


_turn: ContextVar[TurnContext | None] = ContextVar("hivewire_turn", default=None)


def current_turn() -> TurnContext | None:
    """Return the turn that runs, or None outside of turns."""
    return _turn.get()


def enter_turn(ctx: TurnContext) -> AbstractContextManager[None]:
    """Run the body of the `with` statement as part of this turn."""
    return _Populated(_turn, ctx)


class _Populated(AbstractContextManager[None], Generic[T]):
    """Sets a context variable for the body of a `with` statement. A class, as it runs once or twice per message."""

    __slots__ = ("_token", "_value", "_var")

    def __init__(self, var: ContextVar[T], value: T) -> None:
        self._var = var
        self._value = value

    def __enter__(self) -> None:
        self._token: Token[T] = self._var.set(self._value)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._var.reset(self._token)


def _refuse_instance(cls: type) -> NoReturn:
    raise RuntimeError(f"{cls.__name__} cannot be instantiated: call its class methods")
