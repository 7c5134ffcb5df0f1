"""A runtime that stands in for a program which is elsewhere, behind another protocol.

To all others it is a process like any: it has a session, owns shards, keeps agents' messages in order, stores their
states, tries again what fails. Only the code of the agents is not here. An agent of this runtime is a stand-in that
hands each message to the `Worker`, where the agent itself is, and takes back what it answers. Nothing of it is read
here: messages, answers, states and errors stay the bytes that they came as.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Protocol, Self

from opentelemetry.trace import NoOpTracerProvider

from hivewire.agents.base import BaseAgent
from hivewire.agents.concurrency import Concurrency
from hivewire.agents.retries import RetryPolicy
from hivewire.agents.stateless import stateless_worker
from hivewire.exceptions import SubscriptionNotFoundError
from hivewire.model.call_limit import check_timeout
from hivewire.model.contexts import AgentInstantiationContext, MessageContext, TurnContext, current_turn, enter_turn
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.relaying import leave_events_to_programs
from hivewire.model.runtime import Agent
from hivewire.model.serializer_registry import Encoded
from hivewire.model.state_values import StateText
from hivewire.model.streams import MessageStream
from hivewire.model.subscriptions import Subscription
from hivewire.model.type_messages import TypeMessages
from hivewire.nats.declarations import filter_of, subscriber_of
from hivewire.nats.envelope import CallOperation
from hivewire.nats.handling import Handling
from hivewire.nats.relay import RelayRuntime
from hivewire.nats.runtime import NatsAgentRuntime
from hivewire.nats.turn import Turn
from hivewire.telemetry import passed_on_trace, passing_on

__all__ = ["AgentTraits", "RemoteRetries", "StandInRuntime", "Worker", "mark_final"]

_FINAL = "__hivewire_final__"
_STREAM_ID = re.compile(r"[A-Za-z0-9-]{16,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRetries(RetryPolicy):
    """The retry policy of an agent class that is elsewhere, which says of each error whether it is final."""

    final: tuple[type[BaseException], ...] = ()

    def delay_after(self, attempt: int, error: BaseException, *, chance: float | None = None) -> float | None:
        if vars(error).get(_FINAL):
            return None
        return RetryPolicy.delay_after(self, attempt, error, chance=chance)


def mark_final(error: BaseException) -> None:
    """Let an event that failed with this error be given up at once."""
    vars(error)[_FINAL] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTraits:
    """What a runtime has to know of an agent's class: what its attributes say, and whether it keeps state. None is for
    what they leave to the runtime."""

    persists: bool = False
    is_stateless: bool = False
    concurrency: Concurrency | None = None
    shards: int | None = None
    event_timeout_s: float | None = None
    retries: RemoteRetries = RemoteRetries()


class Worker(Protocol):
    """Where the agents are."""

    async def activate(self, agent: AgentId) -> AgentTraits:
        """Build an agent, and describe its class.

        Raises:
            BaseException: what its factory raised.
        """
        ...

    async def handle(self, turn: Turn) -> Any:
        """Have a message handled; return an `Encoded` answer, or an async iterator over such."""
        ...

    async def operate(self, agent: AgentId, operation: CallOperation, payload: bytes) -> Encoded | None:
        """Do what is no message."""
        ...

    async def save_state(self, agent: AgentId) -> StateText:
        """Return the state of an agent."""
        ...

    async def load_state(self, agent: AgentId, state: StateText) -> None:
        """Give an agent its state."""
        ...

    async def close(self, agent: AgentId) -> None:
        """Take an agent out of memory."""
        ...


class StandIn(BaseAgent):
    """An agent of this runtime whose code is with the worker."""

    def __init__(self, worker: Worker) -> None:
        super().__init__("an agent behind another protocol")
        self.worker = worker

    async def close(self) -> None:
        await self.worker.close(self.id)


class StatefulStandIn(StandIn):
    """One that keeps state."""

    async def save_state(self) -> StateText:  # type: ignore[override]  # it is never looked into
        return await self.worker.save_state(self.id)

    async def load_state(self, state: Any) -> None:
        await self.worker.load_state(self.id, state)


@lru_cache(maxsize=4096)
def stand_in_class(traits: AgentTraits) -> type[StandIn]:
    """Return a class of stand-ins that has these traits; for equal ones it is the same."""
    attributes: dict[str, Any] = {"retry_policy": traits.retries, "concurrency": traits.concurrency}
    if traits.shards is not None:
        attributes["shards"] = traits.shards
    if traits.event_timeout_s is not None:
        attributes["event_timeout"] = traits.event_timeout_s
    cls = type("StandIn", (StatefulStandIn if traits.persists else StandIn,), attributes)
    return stateless_worker(cls) if traits.is_stateless else cls


class StandInHandling(Handling):
    """Hands messages to the worker, which does all that is done where an agent is."""

    async def _ask(self, turn: Turn, agent: Agent, message: Any, context: MessageContext) -> Any:
        assert isinstance(agent, StandIn)
        return await agent.worker.handle(turn)

    async def _operate(self, turn: Turn, agent: Agent) -> Any:
        assert isinstance(agent, StandIn)
        assert turn.operation != "bury"
        return await agent.worker.operate(turn.agent, turn.operation, turn.payload)


class StandInRuntime(RelayRuntime):
    """Serves agent types on behalf of one worker.

    It has to be connected, and used, in tasks whose `is_relaying` is set. What the worker does within a turn is to be
    done in the context of that turn's `Worker.handle`.
    """

    _handling: ClassVar[type[Handling]] = StandInHandling

    def __init__(self, broker_url: str, **options: Any) -> None:
        # Spans are opened where the agents are.
        super().__init__(broker_url, **{**options, "tracer_provider": NoOpTracerProvider()})
        self._told: dict[str, TypeMessages] = {}
        leave_events_to_programs()

    async def connect(self) -> Self:
        """Connect, so that messages can be sent; see `NatsAgentRuntime`. Nobody asks this one what others handle."""
        return await NatsAgentRuntime.connect(self)

    def _described(
        self, agent_type: str, agent_class: type[Any] | None, factory: Callable[..., Any] | None = None
    ) -> TypeMessages:
        return self._told[agent_type]

    async def host(
        self,
        agent_type: str,
        worker: Worker,
        traits: AgentTraits | None,
        subscriptions: Sequence[Subscription],
        messages: TypeMessages,
    ) -> None:
        """Serve a type that handles these messages. Without traits they are those of the first agent that the worker
        builds.

        Raises:
            ValueError: the type is taken, has another shape elsewhere, or a subscription is refused.
        """
        declared = None if traits is None else stand_in_class(traits)
        self._told[agent_type] = messages
        await self.register_type(
            AgentType(agent_type),
            _factory(worker, declared),
            expected_class=declared,
            subscriptions=subscriptions,
            serializers=(),
        )

    async def host_instance(
        self,
        agent_id: AgentId,
        worker: Worker,
        traits: AgentTraits,
        subscriptions: Sequence[Subscription],
        messages: TypeMessages,
    ) -> None:
        """Serve one agent that the worker has as an object, and that handles these messages.

        Raises:
            ValueError: its type is registered elsewhere by a factory, or a subscription is refused.
        """
        self._told[agent_id.type] = messages
        agent = stand_in_class(traits)(worker)
        agent._bind(agent_id, self)
        self.adopt_instance(agent, agent_id, subscriptions=subscriptions, serializers=())
        await self._settle_adopted()

    async def withdraw(self, subscription: Subscription) -> None:
        """Remove a subscription, also one that the worker added through another runtime like this."""
        try:
            self._subscriptions.remove(subscription.id)
        except SubscriptionNotFoundError:
            filter_of(subscription), subscriber_of(subscription)
        await self._declarations.remove(subscription)

    async def operate(self, operation: CallOperation, agent: AgentId, payload: bytes) -> Encoded | None:
        """Ask an agent's process for something about the agent, as JSON.

        Raises:
            AgentNotFoundError: it is unknown.
        """
        await self._ready()
        argument = Encoded("", "application/json", payload)
        answer: Encoded | None = await self._outgoing.operate(operation, agent, argument)
        return answer

    def is_here(self, agent_id: AgentId) -> bool:
        """Tell whether an agent lives with this worker.

        Raises:
            AgentNotFoundError: its type is unknown.
        """
        return self._lives_here(agent_id)

    async def activate(self, agent_id: AgentId) -> None:
        """Have the worker build an agent that lives there, with its stored state."""
        await self._serving.turns.activate(agent_id)

    async def is_idle(self) -> bool:
        """Tell whether nothing runs here, and no event waits that is this process's to handle."""
        return await self._is_idle()

    def open_stream(
        self,
        message: Encoded,
        recipient: AgentId,
        *,
        sender: AgentId | None,
        message_id: str | None,
        timeout: float | None,
        stream_id: str | None,
    ) -> MessageStream:
        """Stream what an agent's handler yields, as `stream_message` does; with an id, which is a new one, resumably.

        Raises:
            ValueError: the id is not 16 to 64 letters, digits and hyphens.
        """
        check_timeout(timeout)
        self._check_connected()
        if stream_id is None:
            return self.stream_message(message, recipient, sender=sender, message_id=message_id, timeout=timeout)
        if not _STREAM_ID.fullmatch(stream_id):
            raise ValueError(f"{stream_id!r:.80} can't be the id of a stream")
        return self._outgoing.stream_kept(
            message,
            recipient,
            sender=sender,
            cancellation_token=None,
            message_id=message_id,
            timeout=timeout,
            streams=self._kept_streams,
            stream_id=stream_id,
        )

    async def cancel_stream(self, stream_id: str) -> None:
        """Cancel the handler of a resumable stream.

        Raises:
            BrokerUnavailableError: it can't be told.
        """
        await self._ready()
        await self._kept_streams.cancel(stream_id)

    async def cancel_schedule(self, id: str) -> bool:
        """Let a schedule fire no more; return False when there was nothing left to fire."""
        return await self._cancel_schedule(id)

    async def abandon(self) -> None:
        """End as a process does that is killed: nothing is handed over. Callers whose messages run here are told that
        the worker is lost, and others take over as soon as they see that the session is gone."""
        if self._state == "connecting":
            # Whoever connects it undoes that.
            return
        if self._state not in ("new", "stopped"):
            self._serving.give_up()
            if self._stopping is None:
                self._stopping = asyncio.create_task(self._stop(draining=False), name="hivewire: abandon")
        await self.stop()

    async def stop_within(self, seconds: float) -> None:
        """Stop, and let running handlers take no longer than this for their end."""
        if seconds < self._options.drain_timeout:
            self._options = replace(self._options, drain_timeout=seconds)
        await self.stop()

    @contextmanager
    def on_behalf(
        self,
        trace: Mapping[str, str],
        *,
        published: int | None = None,
        noticed: bool = False,
        chain: tuple[str, ...] = (),
    ) -> Iterator[None]:
        """Do, in the body of the `with` statement, what the worker's program does.

        Args:
            trace: The headers that go with what is sent. Without any they are those of the turn.
            published: How much the turn has published before, if it is done within one.
            noticed: Whether its handler can know that its message was cancelled.
            chain: The turns that caused it, if it is done within one that this runtime does not have.
        """
        turn = current_turn()
        if turn is not None:
            if published is not None:
                turn.published = published
            if noticed:
                turn.token._noticed = True
        outer = enter_turn(TurnContext("", chain, ended=True)) if turn is None and chain else nullcontext()
        with outer, passing_on(trace or passed_on_trace()):
            yield


def _factory(worker: Worker, declared: type[StandIn] | None) -> Callable[[], Awaitable[StandIn]]:
    async def build() -> StandIn:
        traits = await worker.activate(AgentInstantiationContext.current_agent_id())
        return (declared or stand_in_class(traits))(worker)

    return build
