"""What a runtime that serves its agents over a network asks of an agent, wherever that lives, beside messages."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

from hivewire.agents.scheduling_host import SchedulingHost
from hivewire.model.ids import AgentId, AgentMetadata, AgentType
from hivewire.model.state_values import decode_state, encode_state

__all__ = ["OperatingHost"]


class OperatingHost(SchedulingHost):
    """The part of such a runtime that describes agents, and takes and gives their states."""

    async def get(
        self, id_or_type: AgentId | AgentType | str, /, key: str = "default", *, lazy: bool = True
    ) -> AgentId:
        """Return the id of an agent; with `lazy=False` its process also builds it."""
        agent_id = id_or_type if isinstance(id_or_type, AgentId) else AgentId(id_or_type, key)
        if not lazy:
            await self.agent_metadata(agent_id)
        return agent_id

    async def agent_metadata(self, agent: AgentId) -> AgentMetadata:
        """Describe an agent, in whatever process it lives.

        Raises:
            AgentNotFoundError: it is unknown.
        """
        await self._ready()
        data = await self._operate("metadata", agent)
        return AgentMetadata(type=data["type"], key=data["key"], description=data["description"])

    async def agent_save_state(self, agent: AgentId) -> Mapping[str, Any]:
        """Return the state of one agent, in whatever process it lives: what it has in memory, or what is stored.

        Raises:
            AgentNotFoundError: it is unknown.
        """
        await self._ready()
        plain = await self._operate("save_state", agent)
        state: Mapping[str, Any] = decode_state(json.dumps(plain), self._serializers, strict=False)
        return state

    async def agent_load_state(self, agent: AgentId, state: Mapping[str, Any]) -> None:
        """Give one agent a state that `agent_save_state` returned, in whatever process it lives. If the agent keeps
        state, it is stored when this returns.

        Raises:
            AgentNotFoundError: it is unknown.
            StateConflictError: somebody else wrote the agent's state at the same time.
        """
        await self._ready()
        await self._operate("load_state", agent, json.loads(encode_state(state, self._serializers)))

    @abstractmethod
    async def _operate(
        self, operation: Literal["metadata", "save_state", "load_state"], agent: AgentId, argument: Any = None
    ) -> Any:
        """Ask the process of an agent for something about the agent; what is asked and answered are JSON values."""
