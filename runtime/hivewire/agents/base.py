"""The base class of agents: who they are, how they send, and how their classes are registered."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from hivewire.agents.registration import (
    add_missing_subscriptions,
    direct_subscription,
    made_subscriptions,
    register_agent_type,
)
from hivewire.exceptions import CantHandleException, SerializationError
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import AgentInstantiationContext, MessageContext
from hivewire.model.ids import AgentId, AgentMetadata, AgentType
from hivewire.model.runtime import Agent, AgentRuntime
from hivewire.model.schedules import MessageScheduler, ScheduleHandle
from hivewire.model.serialization import MessageSerializer, try_get_known_serializers_for_type
from hivewire.model.streams import MessageStream
from hivewire.model.subscriptions import Subscription, TypeSubscription, class_subscriptions
from hivewire.model.topics import TopicId

__all__ = ["BaseAgent", "handles"]

AgentClassT = TypeVar("AgentClassT", bound="type[BaseAgent]")
HandledType = tuple[type, list[MessageSerializer[Any]]]


def handles(
    type: type, serializer: MessageSerializer[Any] | Sequence[MessageSerializer[Any]] | None = None
) -> Callable[[AgentClassT], AgentClassT]:
    """Class decorator: declare a message type that the agent handles, for agents that route messages themselves.

    Raises:
        SerializationError: no serializer is given, and none of the built-in ones fits the type.
    """
    declared = (type, _serializers_for(type, serializer))

    def decorate(cls: AgentClassT) -> AgentClassT:
        # A new list each time: the one found may be a base class's.
        setattr(cls, _HANDLES, [*getattr(cls, _HANDLES, ()), declared])
        return cls

    return decorate


class BaseAgent(Agent):
    """An agent that knows its id and its runtime and can send and publish. Subclasses say what it does with messages.

    Within a factory the id and the runtime come from the runtime that calls it. The constructor takes

    - nothing: the description is the first line of the class's docstring, else the class's name;
    - one string, also as `description=`: the description;
    - an `AgentId` and a runtime: the agent is bound to them.

    Override `on_message` or `on_message_impl`, which is what `on_message` calls. An agent that overrides `save_state`
    is one that has state; it should override `load_state` too. Class attributes say more:

    - `concurrency`, `"serial"` or `"interleaved"`: whether the handlers of one agent may overlap, whatever the
      runtime's own rule is;
    - `retry_policy`, a `RetryPolicy`: how often the distributed runtime handles an event again that failed;
    - `event_timeout`: the seconds that the turn of an event may take there.

    Raises:
        ValueError: the description is not a string.
        RuntimeError: within a factory, an id or a runtime is given that differs from the factory's.
    """

    _id: AgentId | None = None
    _runtime: AgentRuntime | None = None

    def __init__(self, *args: Any, description: str | None = None) -> None:
        if len(args) == 2 and isinstance(args[0], AgentId):
            self._bind(*args)
            args = ()
        if len(args) > 1:
            raise TypeError(f"{type(self).__name__} takes a description, or an AgentId and a runtime, not {args!r}")
        described = args[0] if args else description
        if described is None and not args:
            described = _described_by_class(type(self))
        if not isinstance(described, str):
            raise ValueError(f"Agent description must be a string, not {described!r}")
        self._description = described
        if AgentInstantiationContext.is_in_factory_call():
            self._bind(AgentInstantiationContext.current_agent_id(), AgentInstantiationContext.current_runtime())

    @property
    def id(self) -> AgentId:
        """The agent's address.

        Raises:
            RuntimeError: the agent is not bound to a runtime yet.
        """
        if self._id is None:
            raise _unbound(self, "id")
        return self._id

    @property
    def type(self) -> str:
        return self.id.type

    @property
    def runtime(self) -> AgentRuntime:
        """The runtime that the agent lives in.

        Raises:
            RuntimeError: the agent is not bound to a runtime yet.
        """
        if self._runtime is None:
            raise _unbound(self, "runtime")
        return self._runtime

    @property
    def metadata(self) -> AgentMetadata:
        id = self.id
        # A subclass may have left out the constructor of this class.
        description = getattr(self, "_description", _described_by_class(type(self)))
        return AgentMetadata(type=id.type, key=id.key, description=description)

    async def bind_id_and_runtime(self, id: AgentId, runtime: AgentRuntime) -> None:
        """Tell the agent who it is and where it lives.

        Raises:
            RuntimeError: it is bound to another id or runtime already.
        """
        self._bind(id, runtime)

    async def on_message(self, message: Any, ctx: MessageContext) -> Any:
        """Handle a message and return the answer, or an iterator over the chunks of one. Only runtimes call this."""
        return await self.on_message_impl(message, ctx)

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        """Handle a message; the default refuses every one.

        Raises:
            CantHandleException: the agent does not handle such messages.
        """
        raise CantHandleException(
            f"{type(self).__name__} handles no messages: override on_message, or derive it from RoutedAgent"
        )

    async def send_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send a message to another agent in this agent's name and return the answer; see `AgentRuntime`."""
        # A runtime with the parameters of AutoGen's protocol knows no timeout, so it is named only where it is used.
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        return await self.runtime.send_message(
            message,
            recipient,
            sender=self.id,
            cancellation_token=cancellation_token,
            message_id=message_id,
            **options,
        )

    def stream_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
        resumable: bool = False,
    ) -> MessageStream:
        """Send a message to another agent in this agent's name and iterate over what its handler yields; see
        `AgentRuntime`."""
        return self.runtime.stream_message(
            message,
            recipient,
            sender=self.id,
            cancellation_token=cancellation_token,
            message_id=message_id,
            timeout=timeout,
            resumable=resumable,
        )

    async def publish_message(
        self,
        message: Any,
        topic_id: TopicId,
        *,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
    ) -> None:
        """Publish a message in this agent's name; the agent itself does not receive it. See `AgentRuntime`."""
        await self.runtime.publish_message(
            message, topic_id, sender=self.id, cancellation_token=cancellation_token, message_id=message_id
        )

    async def schedule_message(
        self,
        message: Any,
        target: AgentId | TopicId,
        *,
        at: datetime | None = None,
        after: float | timedelta | None = None,
        every: float | timedelta | None = None,
        cron: str | None = None,
        time_zone: str | None = None,
        id: str | None = None,
    ) -> ScheduleHandle:
        """Send or publish a message later in this agent's name, which may be to the agent itself; see
        `MessageScheduler`.

        Raises:
            RuntimeError: the runtime keeps no schedules.
        """
        runtime = self.runtime
        if not isinstance(runtime, MessageScheduler):
            raise RuntimeError(f"{type(runtime).__name__} keeps no schedules: it has no schedule_message")
        return await runtime.schedule_message(
            message,
            target,
            at=at,
            after=after,
            every=every,
            cron=cron,
            time_zone=time_zone,
            id=id,
            sender=self.id,
        )

    async def save_state(self) -> Mapping[str, Any]:
        """Return the agent's state: a dict of JSON values and of objects that have a serializer. Not overridden it
        means that the agent has none."""
        return {}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `save_state` returned. Not overridden it warns when there is something to lose."""
        if state:
            warnings.warn(f"{type(self).__name__} does not override load_state: the state is ignored", stacklevel=2)

    async def close(self) -> None:
        """Release what the agent holds. Called once, when the instance leaves memory."""

    @classmethod
    async def register(
        cls,
        runtime: AgentRuntime,
        type: str | AgentType,
        factory: Callable[[], Self | Awaitable[Self]],
        *,
        skip_class_subscriptions: bool = False,
        skip_direct_message_subscription: bool = False,
    ) -> AgentType:
        """Register the class under an agent type, with its subscriptions and the serializers of its messages.

        After an error nothing is registered, and the call may be repeated.

        Raises:
            ValueError: the type is not a valid one or is taken, or one of the subscriptions is there already.
            SerializationError: nothing can serialize one of the message types that the class handles.
        """
        agent_type = type if isinstance(type, AgentType) else AgentType(type)
        serializers = cls._message_serializers()
        subscriptions: list[Subscription] = []
        if not skip_class_subscriptions:
            subscriptions += await made_subscriptions(agent_type, class_subscriptions(cls))
        if not skip_direct_message_subscription:
            subscriptions.append(direct_subscription(agent_type.type))
        return await register_agent_type(
            runtime, agent_type, factory, expected_class=cls, subscriptions=subscriptions, serializers=serializers
        )

    async def register_instance(
        self,
        runtime: AgentRuntime,
        agent_id: AgentId,
        *,
        skip_class_subscriptions: bool = True,
        skip_direct_message_subscription: bool = False,
    ) -> AgentId:
        """Register this one object under an id. It also subscribes to the topic type that is named as its key.

        Raises:
            ValueError: the id is taken, its type has a factory, or instances of another class.
            SerializationError: nothing can serialize one of the message types that the class handles.
            RuntimeError: the agent is bound to another id or runtime.
        """
        serializers = self._message_serializers()
        subscriptions: list[Subscription] = [TypeSubscription(topic_type=agent_id.key, agent_type=agent_id.type)]
        if not skip_class_subscriptions:
            subscriptions += await made_subscriptions(AgentType(agent_id.type), class_subscriptions(type(self)))
        if not skip_direct_message_subscription:
            subscriptions.append(direct_subscription(agent_id.type))
        agent_id = await runtime.register_agent_instance(self, agent_id)
        await add_missing_subscriptions(runtime, subscriptions)
        if serializers:
            runtime.add_message_serializer(serializers)
        return agent_id

    @classmethod
    def _handles_types(cls) -> list[HandledType]:
        """Return the declared message types of the class, each with the serializers for it.

        Raises:
            SerializationError: there is none for one of them.
        """
        return list(getattr(cls, _HANDLES, ()))

    @classmethod
    def _message_serializers(cls) -> list[MessageSerializer[Any]]:
        return [serializer for _, serializers in cls._handles_types() for serializer in serializers]

    def _bind(self, id: AgentId, runtime: AgentRuntime) -> None:
        if self._id is not None and self._id != id:
            raise RuntimeError(f"Agent is already bound to a different ID: {self._id}, not {id}")
        if self._runtime is not None and self._runtime is not runtime:
            raise RuntimeError(f"Agent {self._id} is already bound to a different runtime")
        self._id = id
        self._runtime = runtime


_HANDLES = "__hivewire_handles__"


def _serializers_for(
    message_type: type, serializer: MessageSerializer[Any] | Sequence[MessageSerializer[Any]] | None
) -> list[MessageSerializer[Any]]:
    if serializer is None:
        serializers = list(try_get_known_serializers_for_type(message_type))
    else:
        serializers = list(serializer) if isinstance(serializer, Sequence) else [serializer]
    if not serializers:
        raise SerializationError(
            f"No serializers found for type {message_type!r}: make it a dataclass, a pydantic model or a protobuf"
            " message, or give a serializer"
        )
    return serializers


def _described_by_class(cls: type) -> str:
    # Not inspect.getdoc: it would take the text of a base class, which says nothing about this one.
    lines = (cls.__doc__ or "").strip().splitlines()
    return lines[0].strip() if lines and not _is_generated(cls) else cls.__name__


def _is_generated(cls: type) -> bool:
    """Whether the docstring is the signature that `dataclass` writes for want of another."""
    return "__dataclass_fields__" in cls.__dict__ and str(cls.__doc__).startswith(f"{cls.__name__}(")


class _UnboundError(RuntimeError, AttributeError):
    """Also an AttributeError, so that `hasattr`, and with it a check against a protocol, takes the value as missing."""


def _unbound(agent: BaseAgent, what: str) -> _UnboundError:
    return _UnboundError(
        f"{type(agent).__name__} has no {what} yet: register a factory and let the runtime create the agent,"
        " or use register_instance"
    )
