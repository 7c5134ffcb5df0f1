"""Runs messages on the agents of this process, one turn a message.

A turn is: activate the agent, wait for its place if the agent takes one turn at a time, decode, handle. What becomes of
the outcome, a reply or a finished event, is the business of who started the turn.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hivewire.agents.catalog import AgentCatalog
from hivewire.agents.concurrency import Concurrency, is_serial
from hivewire.exceptions import CantHandleException, DeadlineExceededError
from hivewire.logging import EVENT_LOGGER_NAME, DeliveryStage, MessageEvent, MessageKind
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext, MessageHandlerContext, TurnContext, enter_turn
from hivewire.model.ids import AgentId
from hivewire.model.runtime import Agent
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.topics import TopicId
from hivewire.model.turns import TurnOrder
from hivewire.nats.envelope import CallOperation
from hivewire.telemetry import MessageTracer

_event_log = logging.getLogger(EVENT_LOGGER_NAME)


# Not frozen, as that would make it three times as slow to build.
@dataclass(slots=True, kw_only=True)
class Turn:
    """One message for one agent. `topic` is None for a direct message, `id` is unique over all processes, and after
    `deadline`, on the monotonic clock, it is not worth starting."""

    id: str
    agent: AgentId
    type_name: str
    content_type: str
    payload: bytes
    message_id: str
    operation: CallOperation = "message"
    sender: AgentId | None = None
    topic: TopicId | None = None
    chain: tuple[str, ...] = ()
    trace: Mapping[str, str] = field(default_factory=dict)
    token: CancellationToken = field(default_factory=CancellationToken)
    deadline: float = math.inf


class Turns:
    """The turns of one process.

    `started` counts all that were ever begun, so that somebody who looks twice sees whether anything happened between;
    `idle` is set while none runs.
    """

    def __init__(
        self,
        catalog: AgentCatalog,
        serializers: SerializerRegistry,
        tracer: MessageTracer,
        *,
        concurrency: Concurrency | None,
        record_payloads: bool,
    ) -> None:
        self._catalog = catalog
        self._serializers = serializers
        self._tracer = tracer
        self._concurrency = concurrency
        self._record_payloads = record_payloads
        self._mailboxes: dict[AgentId, _Mailbox] = {}
        self._serial_classes: dict[type, bool] = {}
        self.running = 0
        self.started = 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def run(self, turn: Turn) -> Any:
        """Handle a message and return what the handler returned.

        Raises:
            CancelledError: the message was cancelled before its turn came, or the handler raised it.
            DeadlineExceededError: its deadline passed before its turn came.
            SerializationError: the message can't be decoded.
            AgentNotFoundError: this process does not have the agent.
            BaseException: what the factory or the handler raised.
        """
        self.running += 1
        self.started += 1
        self.idle.clear()
        try:
            agent = self._catalog.live(turn.agent)
            if agent is None:
                agent = await self._catalog.activate(turn.agent)
            if self._is_serial(agent):
                return await self._in_mailbox(turn, agent)
            return await self._handle(turn, agent)
        finally:
            self.running -= 1
            if not self.running:
                self.idle.set()

    async def _in_mailbox(self, turn: Turn, agent: Agent) -> Any:
        mailbox = self._mailboxes.get(turn.agent)
        if mailbox is None:
            mailbox = self._mailboxes[turn.agent] = _Mailbox()
        await mailbox.enter(turn)
        try:
            return await self._handle(turn, agent)
        finally:
            mailbox.leave(turn)
            if mailbox.order.idle:
                self._mailboxes.pop(turn.agent, None)

    async def _handle(self, turn: Turn, agent: Agent) -> Any:
        if turn.token.is_cancelled:
            raise asyncio.CancelledError("The message was cancelled before its turn came")
        if time.monotonic() >= turn.deadline:
            raise DeadlineExceededError(f"The call to {turn.agent} had expired before its turn came")
        if turn.operation != "message":
            return await self._operate(turn, agent)
        message = self._serializers.decode(
            turn.payload,
            type_name=turn.type_name,
            content_type=turn.content_type,
            preferred=self._serializers.handled_types(type(agent)),
        )
        context = MessageContext(
            sender=turn.sender,
            topic_id=turn.topic,
            is_rpc=turn.topic is None,
            cancellation_token=turn.token,
            message_id=turn.message_id,
        )
        if _event_log.isEnabledFor(logging.INFO):
            self._report_delivery(turn)
        # Only a serial agent can be blocked by a call that comes back to it, so only its turns are named in the chain.
        chain = (*turn.chain, turn.id) if self._is_serial(agent) else turn.chain
        with (
            MessageHandlerContext.populate_context(turn.agent),
            enter_turn(TurnContext(turn_id=turn.id, chain=chain)),
        ):
            if not self._tracer.enabled:
                return await agent.on_message(message, ctx=context)
            destination = self._tracer.destination_of(turn.agent)
            with self._tracer.span("process", destination, parent=turn.trace):
                return await agent.on_message(message, ctx=context)

    async def _operate(self, turn: Turn, agent: Agent) -> Any:
        match turn.operation:
            case "metadata":
                return dict(agent.metadata)
            case "save_state":
                return dict(await agent.save_state())
            case "load_state":
                state = self._serializers.decode(turn.payload, type_name="dict", content_type=turn.content_type)
                await agent.load_state(state)
                return None
            case other:
                raise CantHandleException(f"{turn.agent} knows no operation {other!r}")

    def _is_serial(self, agent: Agent) -> bool:
        cls = type(agent)
        known = self._serial_classes.get(cls)
        if known is None:
            known = self._serial_classes[cls] = is_serial(cls, self._concurrency, default_persisting=True)
        return known

    def _report_delivery(self, turn: Turn) -> None:
        _event_log.info(
            MessageEvent(
                payload=turn.payload.decode(errors="replace") if self._record_payloads else turn.type_name,
                sender=turn.sender,
                receiver=turn.agent,
                kind=MessageKind.DIRECT if turn.topic is None else MessageKind.PUBLISH,
                delivery_stage=DeliveryStage.DELIVER,
            )
        )


class _Mailbox:
    """The waiting turns of an agent that takes one at a time."""

    def __init__(self) -> None:
        self.order = TurnOrder(serial=True)
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def enter(self, turn: Turn) -> None:
        if self.order.arrive(turn.id, turn.chain):
            return
        turn_comes = self._waiting[turn.id] = asyncio.get_running_loop().create_future()
        turn.token.link_future(turn_comes)
        try:
            await turn_comes
        except asyncio.CancelledError:
            if not self.order.drop(turn.id):
                # Its place came in the same moment: it must be given on.
                self.leave(turn)
            raise
        finally:
            self._waiting.pop(turn.id, None)

    def leave(self, turn: Turn) -> None:
        for turn_id in self.order.finish(turn.id):
            waiting = self._waiting[turn_id]
            # One that was cancelled in the same moment gives its place on when it wakes.
            if not waiting.done():
                waiting.set_result(None)
