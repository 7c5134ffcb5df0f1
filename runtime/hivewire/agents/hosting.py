"""What a runtime hosts in its process: agents, subscriptions and serializers, apart from the messages that it moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from hivewire.agents.base import BaseAgent
from hivewire.agents.catalog import AgentCatalog
from hivewire.agents.concurrency import persists
from hivewire.exceptions import AgentNotFoundError, SerializationError
from hivewire.model.ids import AgentId, AgentMetadata, AgentType, check_strict_agent_id
from hivewire.model.runtime import Agent, AgentRuntime
from hivewire.model.serialization import MessageSerializer
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.subscriptions import Subscription, SubscriptionSet

__all__ = ["AgentHost"]

AgentT = TypeVar("AgentT", bound=Agent)
_type_of = type


class AgentHost(AgentRuntime):
    """The part of a runtime that keeps its agents. Subclasses send and publish."""

    def __init__(self, *, strict_ids: bool, strict_payloads: bool, strict_unhandled: bool) -> None:
        self._catalog = AgentCatalog(self)
        self._subscriptions = SubscriptionSet()
        self._serializers = SerializerRegistry(strict=strict_payloads)
        self._strict_ids = strict_ids
        self._strict_unhandled = strict_unhandled

    @property
    def strict_unhandled(self) -> bool:
        """Whether agents raise `CantHandleException` for messages that no handler takes."""
        return self._strict_unhandled

    async def register_factory(
        self,
        type: str | AgentType,
        agent_factory: Callable[[], AgentT | Awaitable[AgentT]],
        *,
        expected_class: type[AgentT] | None = None,
    ) -> AgentType:
        """Register how agents of a type are made. Adds no subscription.

        Raises:
            ValueError: the type is not a valid one or is taken.
        """
        agent_type = type if isinstance(type, AgentType) else AgentType(type)
        self._add_factory(agent_type, agent_factory, expected_class)
        if expected_class is not None and issubclass(expected_class, BaseAgent):
            try:
                self._serializers.add(expected_class._message_serializers())
            except SerializationError:
                # Within this process even what nothing serializes can be sent, so it is no reason to refuse the type.
                pass
        return agent_type

    async def register_agent_instance(self, agent_instance: Agent, agent_id: AgentId) -> AgentId:
        """Register one agent that exists already. Adds no subscription.

        Raises:
            ValueError: the id is taken, its type has a factory, or instances of another class.
            RuntimeError: the agent is bound to another id or runtime.
        """
        self._check_strict(agent_id)
        self._catalog.add_instance(agent_instance, agent_id)
        try:
            await agent_instance.bind_id_and_runtime(agent_id, self)
        except BaseException:
            self._forget_instance(agent_id)
            raise
        return agent_id

    async def register_type(
        self,
        type: AgentType,
        agent_factory: Callable[[], AgentT | Awaitable[AgentT]],
        *,
        expected_class: type[AgentT],
        subscriptions: Sequence[Subscription],
        serializers: Sequence[MessageSerializer[Any]],
    ) -> AgentType:
        """Register a type with its subscriptions and serializers, all or nothing.

        Raises:
            ValueError: the type is not a valid one or is taken, or a subscription is there already.
        """
        self._add_factory(type, agent_factory, expected_class)
        try:
            self._add_all(subscriptions)
        except BaseException:
            self._catalog.remove_type(type.type)
            raise
        self._serializers.add(list(serializers))
        return type

    def adopt_instance(
        self,
        agent: Agent,
        agent_id: AgentId,
        *,
        subscriptions: Sequence[Subscription],
        serializers: Sequence[MessageSerializer[Any]],
    ) -> None:
        """Register an agent that is bound already, all or nothing, from code that cannot await.

        Raises:
            ValueError: the id is taken, its type has a factory or instances of another class, or a subscription is
                there already.
        """
        self._check_strict(agent_id)
        self._catalog.add_instance(agent, agent_id)
        try:
            self._add_all(subscriptions)
        except BaseException:
            self._forget_instance(agent_id)
            raise
        self._serializers.add(list(serializers))

    async def try_get_underlying_agent_instance(
        self,
        id: AgentId,
        type: type[AgentT] = Agent,  # type: ignore[assignment]  # mypy: a default for a type variable
    ) -> AgentT:
        """Return the agent object, building it first if need be.

        Raises:
            LookupError: the agent is unknown.
            TypeError: it is of another class.
        """
        agent = await self._catalog.activate(id)
        if not isinstance(agent, type):
            raise TypeError(f"Agent {id} is a {_type_of(agent).__name__}, not a {type.__name__}")
        return agent

    async def get(
        self, id_or_type: AgentId | AgentType | str, /, key: str = "default", *, lazy: bool = True
    ) -> AgentId:
        """Return the id of an agent; with `lazy=False` also build it.

        Raises:
            ValueError: the type is not a valid one.
            LookupError: with `lazy=False`, the agent is unknown.
        """
        agent_id = id_or_type if isinstance(id_or_type, AgentId) else AgentId(id_or_type, key)
        if not lazy:
            await self._catalog.activate(agent_id)
        return agent_id

    async def save_state(self) -> Mapping[str, Any]:
        """Return the states of the agents in memory that have one, by their ids as text."""
        states: dict[str, Any] = {}
        for agent_id in self._catalog.live_ids():
            agent = self._catalog.live(agent_id)
            if agent is not None and persists(agent):
                state = await agent.save_state()
                states[str(agent_id)] = dict(state) if isinstance(state, Mapping) else state
        return states

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Give agents the states that `save_state` returned, building those that are missing.

        Unknown types are ignored.
        """
        for id_text, agent_state in state.items():
            agent_id = AgentId.from_str(id_text)
            if self._catalog.has_type(agent_id.type):
                agent = await self._catalog.activate(agent_id)
                await agent.load_state(agent_state)

    async def agent_metadata(self, agent: AgentId) -> AgentMetadata:
        """Describe an agent, building it first if need be.

        Raises:
            AgentNotFoundError: it is unknown.
        """
        return (await self._catalog.activate(agent)).metadata

    async def agent_save_state(self, agent: AgentId) -> Mapping[str, Any]:
        """Return the state of one agent.

        Raises:
            AgentNotFoundError: it is unknown.
        """
        return await (await self._catalog.activate(agent)).save_state()

    async def agent_load_state(self, agent: AgentId, state: Mapping[str, Any]) -> None:
        """Give one agent a state that `agent_save_state` returned.

        Raises:
            AgentNotFoundError: it is unknown.
        """
        await (await self._catalog.activate(agent)).load_state(state)

    async def add_subscription(self, subscription: Subscription) -> None:
        """Add a subscription; it holds for every message that is delivered after this call.

        Raises:
            ValueError: an equal one is there already.
        """
        self._subscriptions.add(subscription)

    async def remove_subscription(self, id: str) -> None:
        """Remove a subscription.

        Raises:
            SubscriptionNotFoundError: there is none of that id.
        """
        self._subscriptions.remove(id)

    def add_message_serializer(self, serializer: MessageSerializer[Any] | Sequence[MessageSerializer[Any]]) -> None:
        """Use these serializers; they replace earlier ones for the same type name and content type."""
        self._serializers.add(serializer)

    def _add_factory(self, type: AgentType, agent_factory: Callable[[], Any], expected_class: type[Any] | None) -> None:
        self._check_strict(AgentId(type, ""))
        self._catalog.add_factory(type, agent_factory, expected_class)

    def _check_known(self, recipient: AgentId) -> None:
        if not self._catalog.has_type(recipient.type):
            raise AgentNotFoundError(f"Recipient not found: no agent type {recipient.type!r} is registered")

    def _check_strict(self, agent_id: AgentId) -> None:
        if self._strict_ids:
            check_strict_agent_id(agent_id)

    def _add_all(self, subscriptions: Sequence[Subscription]) -> None:
        added: list[Subscription] = []
        try:
            for subscription in subscriptions:
                self._subscriptions.add(subscription)
                added.append(subscription)
        except BaseException:
            for subscription in added:
                self._subscriptions.remove(subscription.id)
            raise

    def _forget_instance(self, agent_id: AgentId) -> None:
        self._catalog.discard(agent_id)
        if not self._catalog.instances(agent_id.type):
            self._catalog.remove_type(agent_id.type)
