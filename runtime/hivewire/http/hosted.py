"""The agents of this process at work: what the gateway asks of them.

The gateway decides when a message is handled, how often, and how long it may take. Here is what belongs to the
handler's own process: the instance, the serializers, the intervention handlers, spans, and the context of a handler.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from hivewire.agents.catalog import AgentCatalog
from hivewire.agents.concurrency import checked_concurrency
from hivewire.agents.retries import RetryPolicy, retry_policy_of
from hivewire.exceptions import (
    AgentNotFoundError,
    CantHandleException,
    MessageDroppedException,
    MessageTooLargeError,
    SerializationError,
)
from hivewire.http import wire
from hivewire.http.channel import Channel, IncomingRequest
from hivewire.http.event_reports import EventReports
from hivewire.http.frames import Header
from hivewire.http.hosted_turn import HostedTurn
from hivewire.http.requests import Requests, check_size
from hivewire.http.traits import traits_of
from hivewire.logging import DeliveryStage, MessageKind, current_message
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext, MessageHandlerContext, enter_turn
from hivewire.model.ids import AgentId
from hivewire.model.interventions import InterventionChain
from hivewire.model.remote_errors import encode_error
from hivewire.model.runtime import Agent
from hivewire.model.serializer_registry import Encoded, SerializerRegistry
from hivewire.model.state_values import decode_state, encode_state
from hivewire.model.streams import close_stream, is_stream
from hivewire.model.topics import TopicId
from hivewire.telemetry import MessageTracer

__all__ = ["HostedAgents"]

log = logging.getLogger("hivewire.http")

_CHUNKS_AT_ONCE: Final = 64

Reply = tuple[Header, bytes]


class HostedAgents:
    """Serves the requests of the gateway that are for agents."""

    def __init__(
        self,
        catalog: AgentCatalog,
        serializers: SerializerRegistry,
        interventions: InterventionChain,
        tracer: MessageTracer,
        reports: EventReports,
        requests: Requests,
    ) -> None:
        self._catalog = catalog
        self._serializers = serializers
        self._interventions = interventions
        self._tracer = tracer
        self._reports = reports
        self._requests = requests
        self._operations = {
            "activate": self._activate,
            "message": self._handle,
            "operate": self._operate,
            "save_state": self._save_state,
            "load_state": self._load_state,
            "close": self._close,
        }

    async def serve(self, channel: Channel, request: IncomingRequest) -> Reply:
        """Answer a request.

        Raises:
            BaseException: what the agent raised.
        """
        operation = self._operations.get(request.op)
        if operation is None:
            raise CantHandleException(f"This worker knows no request {request.op!r}: it may be older than the gateway")
        return await operation(channel, request)

    async def drop_all(self) -> None:
        """Close the agents that can be built again: others may go on with them."""
        for agent_id in self._catalog.live_ids():
            if not self._catalog.is_registered_instance(agent_id):
                await self._catalog.passivate(agent_id)

    async def _activate(self, channel: Channel, request: IncomingRequest) -> Reply:
        with self._tracer.continuing(wire.trace_of(request.header)):
            agent = await self._catalog.activate(wire.agent_of(request.header["agent"]))
        checked_concurrency(getattr(agent, "concurrency", None), "attribute `concurrency` of an agent class")
        return traits_of(type(agent)), b""

    async def _close(self, channel: Channel, request: IncomingRequest) -> Reply:
        agent_id = wire.agent_of(request.header["agent"])
        # An instance is the program's own, and is there for the next connection too.
        if not self._catalog.is_registered_instance(agent_id):
            await self._catalog.passivate(agent_id)
        return {}, b""

    # State

    async def _save_state(self, channel: Channel, request: IncomingRequest) -> Reply:
        agent_id, agent = self._agent_of(request)
        try:
            payload = encode_state(await agent.save_state(), self._serializers).encode()
        except SerializationError as error:
            raise SerializationError(f"The state of {agent_id} can't be stored: {error}") from error
        if len(payload) > self._requests.max_payload:
            raise MessageTooLargeError(
                f"The state of {agent_id} has {len(payload)} bytes, and can't be stored: keep less in it, or keep a "
                f"reference to the data (the broker takes {self._requests.max_payload} bytes)"
            )
        return {}, payload

    async def _load_state(self, channel: Channel, request: IncomingRequest) -> Reply:
        _, agent = self._agent_of(request)
        # What the state holds is looked for where its class is at home, before any message of it was read.
        for cls in type(agent).__mro__:
            self._serializers.remember_module(cls.__module__)
        await agent.load_state(decode_state(request.payload.decode(), self._serializers))
        return {}, b""

    async def _operate(self, channel: Channel, request: IncomingRequest) -> Reply:
        agent_id, agent = self._agent_of(request)
        match request.header["operation"]:
            case "metadata":
                value: Any = dict(agent.metadata)
            case "save_state":
                # As JSON, so that it may hold whatever the serializers of its process know.
                value = json.loads(encode_state(await agent.save_state(), self._serializers))
            case "load_state":
                await agent.load_state(decode_state(request.payload.decode(), self._serializers))
                value = None
            case other:
                raise CantHandleException(f"{agent_id} knows no operation {other!r}")
        return self._value(self._serializers.encode(value), agent_id)

    # Messages

    async def _handle(self, channel: Channel, request: IncomingRequest) -> Reply:
        header = request.header
        agent_id, agent = self._agent_of(request)
        payload = wire.encoded_of(header, request.payload)
        is_event = bool(header.get("event"))
        try:
            turn = self._turn_of(channel, request)
            # Not taken back: a request has a task of its own.
            current_message.set(turn)
            answer = await self._answer(turn, agent_id, agent, payload, request, is_event=is_event)
            if isinstance(answer, int):
                return {"streamed": answer}, b""
        except BaseException as error:
            if channel.closed is not None:
                raise
            return self._failed(agent_id, agent, payload, error, is_event=is_event)
        if is_event:
            return {"none": 1}, b""
        sender = wire.optional_agent_of(header.get("sender"))
        try:
            return self._value(await self._encoded(answer[0], agent_id, sender), agent_id)
        except BaseException as error:
            # The message is handled all the same, and the agent's state is stored.
            reply, encoded = self._failed(agent_id, agent, payload, error, is_event=False)
            return {**reply, "handled": 1}, encoded

    def _turn_of(self, channel: Channel, request: IncomingRequest) -> HostedTurn:
        header = request.header
        left = wire.seconds_of(header, "left")
        turn = HostedTurn(
            turn_id=f"{header['turn']}",
            chain=tuple(header.get("chain") or ()),
            origin=wire.text_of(header, "origin"),
            deadline=math.inf if left is None else time.monotonic() + left,
            token=CancellationToken(),
            channel=channel,
            number=int(header["turn"]),
            owner=self._requests,
            agent=wire.agent_of(header["agent"]),
            message_id=wire.text_of(header, "message"),
            trace=wire.trace_of(header),
        )
        request.on_cancel = partial(_cancel, turn, request)
        if request.early is not None:
            request.on_cancel(request.early)
        return turn

    async def _answer(
        self,
        turn: HostedTurn,
        agent_id: AgentId,
        agent: Agent,
        encoded: Encoded,
        request: IncomingRequest,
        *,
        is_event: bool,
    ) -> int | tuple[Any]:
        """Run the handler; return its answer, or how many chunks it has yielded."""
        message = self._serializers.decode(
            encoded.payload,
            type_name=encoded.type_name,
            content_type=encoded.content_type,
            preferred=self._serializers.handled_types(type(agent)),
        )
        header = request.header
        topic = wire.topic_of(header["topic"]) if "topic" in header else None
        sender = wire.optional_agent_of(header.get("sender"))
        context = MessageContext(
            sender=sender,
            topic_id=topic,
            is_rpc=topic is None,
            cancellation_token=turn.token,
            message_id=turn.message_id,
        )
        kind = MessageKind.DIRECT if topic is None else MessageKind.PUBLISH
        self._reports.message(encoded, sender, agent_id, kind, DeliveryStage.DELIVER)
        with MessageHandlerContext.populate_context(agent_id), enter_turn(turn):
            try:
                with self._span_of(header, agent_id, encoded, topic, is_event=is_event):
                    answer = await agent.on_message(message, ctx=context)
                    if not is_stream(answer):
                        return (answer,)
                    return await self._yielded(turn, answer, agent_id, sender, request, is_event=is_event)
            finally:
                turn.ended = True

    @contextmanager
    def _span_of(
        self, header: Header, agent_id: AgentId, encoded: Encoded, topic: TopicId | None, *, is_event: bool
    ) -> Iterator[None]:
        if not self._tracer.records:
            yield
            return
        trace = wire.trace_of(header)
        with (
            self._tracer.continuing(trace),
            self._tracer.processing(
                agent_id,
                message_id=wire.text_of(header, "message"),
                type_name=encoded.type_name,
                topic=topic,
                parent=trace,
                attempt=int(header.get("attempt", 1)) if is_event else None,
                payload=self._reports.contents(encoded),
            ),
        ):
            yield

    async def _yielded(
        self,
        turn: HostedTurn,
        chunks: AsyncIterator[Any],
        agent_id: AgentId,
        sender: AgentId | None,
        request: IncomingRequest,
        *,
        is_event: bool,
    ) -> int:
        count = 0
        try:
            async for chunk in chunks:
                count += 1
                if not is_event:
                    item = self._value(await self._encoded(chunk, agent_id, sender), agent_id)
                    try:
                        await request.give(*item)
                    except asyncio.CancelledError:
                        turn.learn()
                        raise
                elif count % _CHUNKS_AT_ONCE == 0:
                    # A handler that never awaits must not keep others from their turns.
                    await asyncio.sleep(0)
        finally:
            await close_stream(chunks)
        return count

    async def _encoded(self, value: Any, agent_id: AgentId, sender: AgentId | None) -> Encoded:
        if self._interventions:
            value = await self._interventions.on_response(value, sender=agent_id, recipient=sender)
        encoded = self._serializers.encode(value)
        self._reports.message(encoded, agent_id, sender, MessageKind.RESPOND, DeliveryStage.SEND)
        return encoded

    def _value(self, encoded: Encoded, agent_id: AgentId) -> Reply:
        check_size(encoded, self._requests.max_payload, f"An answer of {agent_id}")
        head = wire.answer_head(encoded)
        return head, b"" if head.get("none") else encoded.payload

    def _failed(
        self, agent_id: AgentId, agent: Agent, message: Encoded, error: BaseException, *, is_event: bool
    ) -> Reply:
        if not isinstance(error, MessageDroppedException):
            self._reports.failure(message, agent_id, error)
        if is_event:
            log.error("%s failed on an event", agent_id, exc_info=error)
        else:
            log.info("%s raised %s on a direct message", agent_id, type(error).__name__)
        header: Header = {"error": 1}
        if is_event and isinstance(error, _policy_of(agent).final):
            header["final"] = 1
        return header, encode_error(error, agent=str(agent_id))

    def _agent_of(self, request: IncomingRequest) -> tuple[AgentId, Agent]:
        agent_id = wire.agent_of(request.header["agent"])
        agent = self._catalog.live(agent_id)
        if agent is None:
            raise AgentNotFoundError(f"Recipient not found: {agent_id} is not active in this process")
        return agent_id, agent


def _cancel(turn: HostedTurn, request: IncomingRequest, kind: str) -> None:
    if kind != "close":
        turn.cancel(kind)
    request.refuse_items(asyncio.CancelledError("Nobody reads the stream any more"))


def _policy_of(agent: Agent) -> RetryPolicy:
    try:
        return retry_policy_of(agent)
    except TypeError as error:
        log.error("%s: %s; the default holds", agent.id, error)
        return RetryPolicy()
