"""One message for one agent, on its way to the agent's handler."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from opentelemetry.trace import Span

from hivewire.model import grace
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import NestedCalls, TurnContext
from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.envelope import CallOperation
from hivewire.telemetry.measuring import MessageMeter


class TurnWithdrawnError(Exception):
    """The turn was not started: its shard is given up, and another process handles it, or its stream is gone."""


class SessionLapsedError(Exception):
    """The turn was not started, since this process may not own the agent any more."""


class GivenUpError(Exception):
    """The event was given up before: its dead letter has to be there."""


Emit = Callable[[Any, NestedCalls | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a turn returns whose answer was a stream of so many `chunks`."""

    chunks: int


# Not frozen, as that would make it three times as slow to build.
@dataclass(slots=True, kw_only=True, eq=False)
class Turn:
    """One message for one agent. `topic` is None for a direct message, `id` is unique over all processes, and after
    `deadline`, on the monotonic clock, it is not worth starting.

    `sequence` is that of an event in the stream that was made at `stream`, `origin` names what is handled for whom,
    whoever runs it. Who gives up its messages withdraws those of the turns of `owner` that have not `started`; `ran`
    tells whether one ever had. `alone`: nothing else of the process runs beside it; `tried` is set once it has run so.
    At `limit`, on the monotonic clock, its `task` is cancelled, for the `overdue`-th time; `left` ends the wait for one
    that goes on all the same. `within` is what its calls know of it. `emit` takes each chunk of a streamed answer;
    without it nobody reads them. `handled_before`: the agent's state held the outcome already, and nothing was run.
    `meter` counts it, if it is a message.
    `attempt` is the how-manieth it is, for an event, `group` the consumers that share out messages like this one, and
    `span` that of the attempt, where somebody traces.
    """

    id: str
    agent: AgentId
    type_name: str
    content_type: str
    payload: bytes
    message_id: str
    operation: CallOperation | Literal["bury"] = "message"
    sender: AgentId | None = None
    topic: TopicId | None = None
    chain: tuple[str, ...] = ()
    trace: Mapping[str, str] = field(default_factory=dict)
    token: CancellationToken = field(default_factory=CancellationToken)
    deadline: float = math.inf
    time_limit_s: float = math.inf
    sequence: int | None = None
    stream: str = ""
    origin: str = ""
    owner: object = None
    started: bool = False
    ran: bool = False
    handled_before: bool = False
    resting: bool = False
    alone: bool = False
    tried: asyncio.Event | None = None
    emit: Emit | None = None
    limit: float = math.inf
    cancelled: bool = False
    overdue: int = 0
    task: asyncio.Task[Any] | None = None
    within: TurnContext | None = None
    left: asyncio.Future[None] | None = None
    meter: MessageMeter | None = None
    attempt: int = 1
    group: str | None = None
    span: Span | None = None

    def expire(self, now: float) -> None:
        """Note that the deadline has passed: its caller's clock is the one that counts."""
        self.deadline = min(self.deadline, now)
        self.limit = min(self.limit, now + grace.GRACE_S)
        if self.within is not None:
            self.within.deadline = self.deadline

    def end_by(self, limit: float) -> None:
        """Set the time at which its task is cancelled, on the monotonic clock: it was told to end."""
        self.limit = limit
        if self.within is not None:
            self.within.ends_at = limit
