"""A turn whose agent is in this process, and whose place in the order of things is kept by the gateway."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from hivewire.http.channel import Channel
from hivewire.model.contexts import TurnContext
from hivewire.model.ids import AgentId

__all__ = ["HostedTurn"]


@dataclass(slots=True)
class HostedTurn(TurnContext):
    """What calls of a handler know of its turn: the gateway has it under `number`, for this connection only. There the
    calls of the turn find their deadline and what cancels them. `owner` is the runtime's requests. `trace` has the
    headers of its message."""

    channel: Channel | None = None
    number: int = 0
    owner: object = None
    agent: AgentId | None = None
    message_id: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)

    def cancel(self, kind: str) -> None:
        """Tell the handler that its answer is no longer wanted."""
        if kind == "deadline":
            self.deadline = min(self.deadline, time.monotonic())
        self.token.cancel()
        if kind == "abort":
            self.token._noticed = True

    def learn(self) -> None:
        """Note that the handler can know that it was cancelled."""
        if self.token._cancelled:
            self.token._noticed = True
