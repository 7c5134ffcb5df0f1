"""An agent's address with the methods of an agent."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageHandlerContext
from hivewire.model.ids import AgentId, AgentMetadata
from hivewire.model.runtime import AgentRuntime
from hivewire.model.streams import MessageStream

__all__ = ["AgentProxy"]


class AgentProxy:
    """Stands for an agent that may live anywhere. Making one neither checks nor creates the agent."""

    def __init__(self, agent: AgentId, runtime: AgentRuntime) -> None:
        self._agent = agent
        self._runtime = runtime

    def __repr__(self) -> str:
        return f"AgentProxy({self._agent!r})"

    @property
    def id(self) -> AgentId:
        return self._agent

    @property
    def metadata(self) -> Awaitable[AgentMetadata]:
        """What the runtime tells about the agent, to be awaited.

        Raises:
            AgentNotFoundError: the runtime does not know it.
        """
        return self._runtime.agent_metadata(self._agent)

    async def send_message(
        self,
        message: Any,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send a message to the agent and return its answer; see `AgentRuntime.send_message`.

        Without a `sender` it is the agent whose handler runs, outside of handlers none.
        """
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        return await self._runtime.send_message(
            message,
            self._agent,
            sender=MessageHandlerContext.current() if sender is None else sender,
            cancellation_token=cancellation_token,
            message_id=message_id,
            **options,
        )

    send = send_message

    def stream_message(
        self,
        message: Any,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
        resumable: bool = False,
    ) -> MessageStream:
        """Send a message to the agent and iterate over what its handler yields; see `AgentRuntime.stream_message`."""
        return self._runtime.stream_message(
            message,
            self._agent,
            sender=MessageHandlerContext.current() if sender is None else sender,
            cancellation_token=cancellation_token,
            message_id=message_id,
            timeout=timeout,
            resumable=resumable,
        )

    async def save_state(self) -> Mapping[str, Any]:
        """Return the agent's state, made of JSON values."""
        return await self._runtime.agent_save_state(self._agent)

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Give the agent a state that `save_state` returned."""
        await self._runtime.agent_load_state(self._agent, state)
