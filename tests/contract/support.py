"""Agents and messages that the contract tests are written with."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest

from hivewire import (
    AgentId,
    AgentRuntime,
    BaseAgent,
    HttpAgentRuntime,
    MessageContext,
    NatsAgentRuntime,
    RetryPolicy,
    SingleThreadedAgentRuntime,
    Subscription,
    TypeSubscription,
)

Runtime: TypeAlias = SingleThreadedAgentRuntime | NatsAgentRuntime | HttpAgentRuntime
MakeRuntime: TypeAlias = Callable[..., Runtime]
Settle: TypeAlias = Callable[[Runtime], Awaitable[None]]

DEADLINE_S = 15
"""How long a test waits for what must come at once."""

only_local = pytest.mark.parametrize("kind", ["local"], indirect=True)
only_nats = pytest.mark.parametrize("kind", ["nats"], indirect=True)
only_network = pytest.mark.parametrize("kind", ["nats", "http"], indirect=True)


@dataclass
class Text:
    value: str


@dataclass
class Number:
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message as an agent got it."""

    agent: AgentId
    message: Any
    ctx: MessageContext


@dataclass
class Inbox:
    """What all agents of a type got, in the order in which they got it."""

    received: list[Received] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.received)

    @property
    def messages(self) -> list[Any]:
        return [each.message for each in self.received]

    @property
    def agents(self) -> list[AgentId]:
        return [each.agent for each in self.received]

    @property
    def keys(self) -> list[str]:
        return [each.agent.key for each in self.received]

    @property
    def only(self) -> Received:
        """The one message that came; several, or none, are a failure of the test."""
        (received,) = self.received
        return received


Handle: TypeAlias = Callable[["Scripted", Any, MessageContext], Awaitable[Any]]


class Scripted(BaseAgent):
    """Does what the test says, and notes what it got. An event that it fails on is not handled again."""

    retry_policy = RetryPolicy(attempts=1)

    def __init__(self, handle: Handle, inbox: Inbox) -> None:
        super().__init__("scripted")
        self.handle = handle
        self.inbox = inbox

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        self.inbox.received.append(Received(agent=self.id, message=message, ctx=ctx))
        return await self.handle(self, message, ctx)


async def echo(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
    """Answer with the message."""
    return message


async def ignore(agent: Scripted, message: Any, ctx: MessageContext) -> None:
    """Answer with nothing."""


async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
    raise ValueError("boom")


async def serve(
    runtime: AgentRuntime, agent_type: str, handle: Handle = echo, *subscriptions: Subscription | str
) -> Inbox:
    """Register scripted agents; a subscription that is a text is for that topic type."""
    inbox = Inbox()
    await runtime.register_factory(agent_type, lambda: Scripted(handle, inbox), expected_class=Scripted)
    for each in subscriptions:
        await runtime.add_subscription(TypeSubscription(each, agent_type) if isinstance(each, str) else each)
    return inbox


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come about."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


class Gate:
    """A handler that waits to be let go, and then answers with the message."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = 0
        self.left = 0

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        self.entered += 1
        try:
            await self.opened.wait()
        finally:
            self.left += 1
        return message
