"""What the documented examples use and do not define: messages, and agents that write down what reaches them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hivewire import AgentId, MessageContext, RoutedAgent, message_handler


@dataclass
class Request:
    data: str = ""


@dataclass
class Response:
    data: str = ""
    result: str = ""


@dataclass
class ErrorResponse:
    error: str


@dataclass
class SubRequest:
    data: str


@dataclass
class LongRunningRequest:
    pass


@dataclass
class WorkRequest:
    pass


@dataclass
class WorkResponse:
    result: str


@dataclass
class StatusEvent:
    status: str


@dataclass
class SystemEvent:
    event: str


@dataclass
class Event:
    data: str


@dataclass
class TriggerEvent:
    pass


@dataclass
class DataEvent:
    data: str


@dataclass
class UserAction:
    action: str


@dataclass
class MyMessage:
    field1: str
    field2: int


@dataclass
class CollectRequest:
    pass


@dataclass
class CollectResponse:
    mean: float
    std_dev: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message as it reached an agent."""

    agent: AgentId
    message: Any
    context: MessageContext


Answer = Callable[[Any, MessageContext], Awaitable[Any]]


class Recorder(RoutedAgent):
    """Takes every message, writes it down, and answers with what it is told to; with the message itself by default."""

    def __init__(self, received: list[Received] | None = None, answer: Answer | None = None) -> None:
        super().__init__("writes down what it receives")
        self._received = [] if received is None else received
        self._answer = answer

    @message_handler
    async def on_anything(self, message: Any, ctx: MessageContext) -> Any:
        self._received.append(Received(agent=self.id, message=message, context=ctx))
        if self._answer is not None:
            return await self._answer(message, ctx)
        return message if ctx.is_rpc else None


@dataclass
class Inbox:
    """What the recorders of a test received, in one list."""

    received: list[Received] = field(default_factory=list)

    def recorder(self, answer: Answer | None = None) -> Recorder:
        return Recorder(self.received, answer)

    @property
    def messages(self) -> list[Any]:
        return [each.message for each in self.received]

    @property
    def agents(self) -> list[AgentId]:
        return [each.agent for each in self.received]
