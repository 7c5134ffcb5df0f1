"""The agents of one runtime in one process: how each type is made, and which instances live."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from hivewire.agents.base import BaseAgent
from hivewire.agents.construction import Construction
from hivewire.exceptions import AgentNotFoundError, register_exception
from hivewire.logging import EVENT_LOGGER_NAME, AgentConstructionExceptionEvent
from hivewire.model.contexts import AgentInstantiationContext
from hivewire.model.ids import AgentId, AgentType, check_agent_type
from hivewire.model.runtime import Agent, AgentRuntime

__all__ = ["AgentCatalog", "UnknownInstanceError"]

_logger = logging.getLogger("hivewire.agents")
_event_logger = logging.getLogger(EVENT_LOGGER_NAME)

AgentFactory = Callable[[], "Agent | Awaitable[Agent]"]


@register_exception
class UnknownInstanceError(AgentNotFoundError, RuntimeError):
    """A type that consists of registered instances has none of that key. AutoGen raises a RuntimeError here."""


class AgentCatalog:
    """Keeps one instance per agent id, built at the first need.

    Of everybody who needs an agent that is not there yet, one builds it and the others wait for that one. A failed
    construction leaves nothing behind: the next need tries again.

    `population` counts those in memory by type. `on_built` is called after each construction, with the error of one
    that failed; `on_left` with each agent that was taken out of memory. Neither may fail. A construction is done within
    `building`, if that is to be seen.
    """

    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        self._types: dict[str, _HostedType] = {}
        self._live: dict[AgentId, Agent] = {}
        self._constructions: dict[AgentId, Construction] = {}
        self.population: Counter[str] = Counter()
        self.on_built: Callable[[AgentId, BaseException | None], object] = _pass_over
        self.on_left: Callable[[AgentId], object] = _pass_over
        self.building: Callable[[AgentId], AbstractContextManager[object]] | None = None

    def add_factory(
        self, type: AgentType, factory: Callable[[], Any], expected_class: type[Any] | None = None
    ) -> AgentType:
        """Add a type whose agents a factory makes; `expected_class` is checked on each of them.

        Raises:
            ValueError: the type is not a valid one or is taken.
        """
        check_agent_type(type.type)
        if type.type in self._types:
            raise ValueError(f"Agent with type {type.type} already exists.")
        self._types[type.type] = _HostedType(factory=factory, expected_class=expected_class)
        return type

    def remove_type(self, type: str) -> None:
        """Forget how a type is made. Its live instances stay."""
        self._types.pop(type, None)

    def add_instance(self, agent: Agent, agent_id: AgentId) -> None:
        """Add an agent that exists already.

        Raises:
            ValueError: the id is taken, the type has a factory, or its instances are of another class.
        """
        hosted = self._types.get(agent_id.type)
        if agent_id in self._live:
            raise ValueError(f"Agent with id {agent_id} already exists.")
        if hosted is not None and hosted.factory is not None:
            raise ValueError("Agent factories and agent instances cannot be registered to the same type.")
        if hosted is not None and hosted.expected_class is not agent.__class__:
            raise ValueError("Agent instances must be the same object type.")
        if hosted is None:
            self._types[agent_id.type] = _HostedType(factory=None, expected_class=agent.__class__)
        self._enter(agent_id, agent)

    def has_type(self, type: str) -> bool:
        return type in self._types

    def types(self) -> list[str]:
        return list(self._types)

    def agent_class(self, type: str) -> type[Any] | None:
        """Return the class of a type's agents: the expected one, else that of the first one built, else None."""
        hosted = self._types.get(type)
        return None if hosted is None else hosted.agent_class

    def live(self, agent_id: AgentId) -> Agent | None:
        """Return an agent if it is in memory."""
        return self._live.get(agent_id)

    def live_agents(self) -> list[Agent]:
        return list(self._live.values())

    def live_ids(self) -> list[AgentId]:
        return list(self._live)

    def instances(self, type: str) -> list[AgentId]:
        """Return the ids of a type that are in memory."""
        return [agent_id for agent_id in self._live if agent_id.type == type]

    def is_registered_instance(self, agent_id: AgentId) -> bool:
        """Tell whether an agent was registered as an object, so that it can't be built again."""
        hosted = self._types.get(agent_id.type)
        return hosted is not None and hosted.factory is None

    def discard(self, agent_id: AgentId) -> Agent | None:
        """Take an instance out of memory and return it; the next need builds another. Closing it is the caller's."""
        agent = self._live.pop(agent_id, None)
        if agent is not None:
            self.population[agent_id.type] -= 1
            self.on_left(agent_id)
        return agent

    async def passivate(self, agent_id: AgentId) -> None:
        """Take an instance out of memory, if it is there, and close it. What its `close` raises is logged."""
        agent = self.discard(agent_id)
        if agent is None:
            return
        try:
            await agent.close()
        except Exception:
            _logger.exception("Error closing agent %s", agent_id)

    async def activate(self, agent_id: AgentId) -> Agent:
        """Return an agent, building it first if it is not in memory.

        Raises:
            AgentNotFoundError: the type is unknown.
            UnknownInstanceError: the type consists of registered instances and has none of this key.
            ValueError: the factory made an agent of another class than the expected one.
            BaseException: what the factory raised.
        """
        agent = self._live.get(agent_id)
        if agent is not None:
            return agent
        construction = self._constructions.get(agent_id)
        if construction is None:
            built = self._begin(agent_id)
            if not isinstance(built, Construction):
                return built
            construction = built
        return await construction.agent()

    def _begin(self, agent_id: AgentId) -> Agent | Construction:
        """Build an agent at once, or start to where that takes awaiting."""
        hosted = self._types.get(agent_id.type)
        if hosted is None:
            raise AgentNotFoundError(f"Recipient not found: no agent type {agent_id.type!r} is registered")
        if hosted.factory is None:
            raise UnknownInstanceError(
                f"Recipient not found: agent type {agent_id.type!r} consists of registered instances, and none of them"
                f" has the key {agent_id.key!r}. If a publish led here, a subscription maps its topic to that key."
            )
        if self.building is not None:
            return self._construction(agent_id, self._build_within(self.building, agent_id, hosted, hosted.factory))
        try:
            with AgentInstantiationContext.populate_context((self._runtime, agent_id)):
                made = hosted.factory()
            if not inspect.isawaitable(made) and _binds_without_awaiting(made):
                hosted.check(made)
                self._bind_if_new(made, agent_id)
                self._enter(agent_id, made)
                self.on_built(agent_id, None)
                return made
        except BaseException as error:
            self._failed(agent_id, error)
            raise
        return self._construction(agent_id, self._build(agent_id, hosted, lambda: made))

    def _construction(self, agent_id: AgentId, build: Coroutine[object, object, Agent]) -> Construction:
        def publish(agent: Agent | None) -> None:
            del self._constructions[agent_id]
            if agent is not None:
                self._enter(agent_id, agent)
                self.on_built(agent_id, None)

        construction = self._constructions[agent_id] = Construction(build, publish)
        return construction

    async def _build_within(
        self,
        building: Callable[[AgentId], AbstractContextManager[object]],
        agent_id: AgentId,
        hosted: _HostedType,
        make: AgentFactory,
    ) -> Agent:
        with building(agent_id):
            return await self._build(agent_id, hosted, make)

    async def _build(self, agent_id: AgentId, hosted: _HostedType, make: AgentFactory) -> Agent:
        try:
            with AgentInstantiationContext.populate_context((self._runtime, agent_id)):
                made = make()
                agent = await made if inspect.isawaitable(made) else made
            hosted.check(agent)
            if _binds_without_awaiting(agent):
                self._bind_if_new(agent, agent_id)
            else:
                await agent.bind_id_and_runtime(agent_id, self._runtime)
        except BaseException as error:
            self._failed(agent_id, error)
            raise
        return agent

    def _enter(self, agent_id: AgentId, agent: Agent) -> None:
        self._live[agent_id] = agent
        self.population[agent_id.type] += 1

    def _failed(self, agent_id: AgentId, error: BaseException) -> None:
        self.on_built(agent_id, error)
        _report_failure(agent_id, error)

    def _bind_if_new(self, agent: Agent, agent_id: AgentId) -> None:
        """Bind an agent that was made outside of the factory's context. One object may serve under several ids."""
        if isinstance(agent, BaseAgent) and agent._id is None:
            agent._bind(agent_id, self._runtime)


@dataclass(slots=True, kw_only=True)
class _HostedType:
    """How agents of a type come to be: by a factory, or, without one, as registered instances of one class."""

    factory: AgentFactory | None
    expected_class: type[Any] | None
    built_class: type[Any] | None = None

    @property
    def agent_class(self) -> type[Any] | None:
        return self.expected_class or self.built_class

    def check(self, agent: object) -> None:
        if self.expected_class is not None and not issubclass(agent.__class__, self.expected_class):
            raise ValueError(
                f"Factory registered using the wrong type: expected {self.expected_class.__name__},"
                f" got {agent.__class__.__name__}"
            )
        self.built_class = self.built_class or agent.__class__


def _binds_without_awaiting(agent: object) -> bool:
    return isinstance(agent, BaseAgent) and type(agent).bind_id_and_runtime is BaseAgent.bind_id_and_runtime


def _pass_over(*_: object) -> None:
    """Nobody counts."""


def _report_failure(agent_id: AgentId, error: BaseException) -> None:
    _logger.error("Error constructing agent %s", agent_id, exc_info=error)
    if _event_logger.isEnabledFor(logging.INFO):
        _event_logger.info(AgentConstructionExceptionEvent(agent_id=agent_id, exception=error))
