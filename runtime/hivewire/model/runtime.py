"""What an agent is to a runtime, and what a runtime is to everybody.

These are the only things that agents and runtimes know of each other, so either side can be replaced.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId, AgentMetadata, AgentType
from hivewire.model.serialization import MessageSerializer
from hivewire.model.streams import MessageStream
from hivewire.model.subscriptions import Subscription
from hivewire.model.topics import TopicId

__all__ = ["Agent", "AgentRuntime", "TypeRegistrar"]


@runtime_checkable
class Agent(Protocol):
    """Anything that a runtime can host."""

    @property
    def metadata(self) -> AgentMetadata: ...

    @property
    def id(self) -> AgentId: ...

    async def bind_id_and_runtime(self, id: AgentId, runtime: AgentRuntime) -> None:
        """Tell the agent who it is. Called once, before its first message.

        Raises:
            RuntimeError: it is bound to another id or runtime.
        """
        ...

    async def on_message(self, message: Any, ctx: MessageContext) -> Any:
        """Handle a message and return the answer, or an async iterator over its chunks. Only runtimes call this.

        Raises:
            CantHandleException: the agent refuses the message.
        """
        ...

    async def save_state(self) -> Mapping[str, Any]:
        """Return the agent's state, made of JSON values."""
        ...

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `save_state` returned."""
        ...

    async def close(self) -> None:
        """Release what the agent holds. Called once, when the instance leaves memory."""
        ...


T = TypeVar("T", bound=Agent)


@runtime_checkable
class AgentRuntime(Protocol):
    """Delivers messages to agents, and creates the agents on their first message."""

    async def send_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send a message to one agent and return its answer; None is an answer too. What a handler yields comes as a
        list.

        `timeout` is in seconds and overrides the runtime's default. Within a handler the call ends with the handler's
        own deadline at the latest, and is cancelled when its message is.

        Raises:
            CantHandleException: the recipient refuses the message.
            UndeliverableException: the message could not be delivered; the subclass says why.
            MessageDroppedException: an intervention handler dropped the message or the answer.
            SerializationError: the message or the answer could not be encoded or decoded.
            asyncio.CancelledError: the token was cancelled.
            Exception: whatever the recipient's factory or handler raised.
        """
        ...

    def stream_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
        resumable: bool = False,
    ) -> MessageStream:
        """Send a message to one agent and iterate over what its handler yields.

        A handler that returns gives one chunk, its answer, and none if that is None. `timeout` is that of the whole
        stream; for the rest, and for what the iteration raises, see `send_message`.

        The chunks of a `resumable` stream are kept for an hour: see `MessageStream` and `resume_stream`. Its `timeout`
        is that of the handler.
        """
        ...

    def resume_stream(self, stream_id: str, *, after: int = 0, timeout: float | None = None) -> MessageStream:
        """Read a resumable stream, from the chunk that follows number `after`.

        `timeout` is that of the reading, in seconds; without one it takes as long as the handler does.

        Raises:
            ValueError: `after` is negative. Out of the iteration: the stream has no chunk of that number.
            StreamNotFoundError: out of the iteration: there is no such stream, or chunks that follow are no longer
                kept.
            WorkerLostError: out of the iteration, after all chunks that were kept: the handler's process is gone.
            DeadlineExceededError: out of the iteration: the timeout passed.
            Exception: out of the iteration: whatever the handler raised.
        """
        ...

    async def publish_message(
        self,
        message: Any,
        topic_id: TopicId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
    ) -> None:
        """Publish a message to all agents that subscribe to the topic, the sender itself left out.

        Returns when the message is accepted. What handlers return or raise does not come back.

        Raises:
            UndeliverableException: the message was not accepted.
            SerializationError: the message could not be encoded.
        """
        ...

    async def register_factory(
        self,
        type: str | AgentType,
        agent_factory: Callable[[], T | Awaitable[T]],
        *,
        expected_class: type[T] | None = None,
    ) -> AgentType:
        """Register how agents of a type are made. Adds no subscription.

        Raises:
            ValueError: the type is not a valid one or is taken in this process.
        """
        ...

    async def register_agent_instance(self, agent_instance: Agent, agent_id: AgentId) -> AgentId:
        """Register one agent that exists already. Adds no subscription.

        Raises:
            ValueError: the id is taken, its type has a factory, or instances of another class.
        """
        ...

    # A protocol is abstract to mypy, but it is the right default here.
    async def try_get_underlying_agent_instance(self, id: AgentId, type: type[T] = Agent) -> T:  # type: ignore[assignment]
        """Return the agent object itself, created if needed.

        Raises:
            LookupError: the agent is unknown.
            NotAccessibleError: it lives in another process.
            TypeError: it is of another class.
        """
        ...

    @overload
    async def get(self, id: AgentId, /, *, lazy: bool = ...) -> AgentId: ...

    @overload
    async def get(self, type: AgentType | str, /, key: str = ..., *, lazy: bool = ...) -> AgentId: ...

    async def get(
        self, id_or_type: AgentId | AgentType | str, /, key: str = "default", *, lazy: bool = True
    ) -> AgentId:
        """Return the id of an agent; with `lazy=False` also create it."""
        ...

    async def save_state(self) -> Mapping[str, Any]:
        """Return the states of the agents that live in this process."""
        ...

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over states that `save_state` returned; unknown types are ignored."""
        ...

    async def agent_metadata(self, agent: AgentId) -> AgentMetadata:
        """Describe an agent.

        Raises:
            AgentNotFoundError: it is unknown.
        """
        ...

    async def agent_save_state(self, agent: AgentId) -> Mapping[str, Any]:
        """Return the state of one agent.

        Raises:
            AgentNotFoundError: it is unknown.
        """
        ...

    async def agent_load_state(self, agent: AgentId, state: Mapping[str, Any]) -> None:
        """Give one agent a state that `agent_save_state` returned.

        Raises:
            AgentNotFoundError: it is unknown.
        """
        ...

    async def add_subscription(self, subscription: Subscription) -> None:
        """Add a subscription; it holds for every publish after this call.

        Raises:
            ValueError: an equal one exists, or the runtime does not take this kind.
        """
        ...

    async def remove_subscription(self, id: str) -> None:
        """Remove a subscription.

        Raises:
            SubscriptionNotFoundError: there is none of that id.
        """
        ...

    def add_message_serializer(self, serializer: MessageSerializer[Any] | Sequence[MessageSerializer[Any]]) -> None:
        """Use these serializers; they replace earlier ones for the same type name and content type."""
        ...


@runtime_checkable
class TypeRegistrar(Protocol):
    """A runtime that can register a type with all that belongs to it in one step, or not at all."""

    async def register_type(
        self,
        type: AgentType,
        agent_factory: Callable[[], T | Awaitable[T]],
        *,
        expected_class: type[T],
        subscriptions: Sequence[Subscription],
        serializers: Sequence[MessageSerializer[Any]],
    ) -> AgentType:
        """Register factory, subscriptions and serializers; after an error nothing of them is registered.

        Raises:
            ValueError: the type is not valid or taken in this process, or a subscription is refused.
        """
        ...
