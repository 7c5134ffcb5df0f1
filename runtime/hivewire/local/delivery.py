"""Bringing one message to one agent, and its answer or error back."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from hivewire.agents.catalog import AgentCatalog
from hivewire.agents.concurrency import Concurrency, is_serial
from hivewire.exceptions import MessageDroppedException, RuntimeStateError
from hivewire.local.dispatcher import Dispatcher
from hivewire.local.event_log import EventLog
from hivewire.local.loopback import Loopback
from hivewire.local.mailboxes import Mailboxes
from hivewire.local.streams import StreamCall
from hivewire.local.work import Call, EventTurn, Publication, Turn, current_work
from hivewire.logging import DeliveryStage, MessageKind, current_agent_id, lines_about
from hivewire.model import grace
from hivewire.model.contexts import MessageContext
from hivewire.model.interventions import InterventionChain
from hivewire.model.runtime import Agent
from hivewire.model.streams import close_stream, is_stream_class
from hivewire.model.subscriptions import SubscriptionSet
from hivewire.telemetry.tracing import MessageTracer

__all__ = ["Delivery"]

_logger = logging.getLogger("hivewire.local")

_CHUNKS_AT_ONCE = 64


class Delivery:
    """Hands accepted messages to agents. An error in a handler ends that handler's message and nothing else.

    Agents get the objects that were sent, or, with a `loopback`, copies that went through their serializers.
    """

    def __init__(
        self,
        *,
        catalog: AgentCatalog,
        subscriptions: SubscriptionSet,
        interventions: InterventionChain,
        tracer: MessageTracer,
        events: EventLog,
        concurrency: Concurrency | None,
        loopback: Loopback | None,
        ignore_event_errors: bool,
    ) -> None:
        self._catalog = catalog
        self._subscriptions = subscriptions
        self._interventions = interventions
        self._tracer = tracer
        self._events = events
        self._concurrency = concurrency
        self._loopback = loopback
        self._ignore_event_errors = ignore_event_errors
        self._serial_classes: dict[type, bool] = {}
        self._mailboxes = Mailboxes()
        self.dispatcher = Dispatcher(self._launch, self._intercept if interventions else None, self._mailboxes)
        self.unrouted_count = 0

    def _launch(self, work: Call | Publication) -> None:
        if isinstance(work, Call):
            self.dispatcher.spawn(self._deliver_call(work), work)
        else:
            self._launch_publication(work)

    def _launch_publication(self, publication: Publication) -> None:
        publication.finished = True
        subscribed = self._subscriptions.recipients(publication.topic_id)
        if not subscribed:
            self.unrouted_count += 1
            with lines_about(publication):
                _logger.info("Unrouted: %s has no subscriber", publication)
        turns = [EventTurn(publication, agent_id) for agent_id in subscribed if agent_id != publication.sender]
        if self._tracer.enabled:
            self.dispatcher.spawn(self._deliver_traced(publication, turns), publication)
            return
        for turn in turns:
            self.dispatcher.spawn(self._deliver_event(turn), turn)

    async def _deliver_call(self, call: Call) -> None:
        if not self._tracer.enabled:
            await self._answer(call)
            return
        destination = self._tracer.destination_of(call.recipient)
        with self._tracer.span("send", destination, parent=call.headers):
            answered = await self._answer(call)
            headers = self._tracer.inject()
        if answered:
            caller = "" if call.sender is None else self._tracer.destination_of(call.sender)
            with self._tracer.span("ack", caller, parent=headers):
                pass

    async def _answer(self, call: Call) -> bool:
        """Let the agent handle a call and settle it; return whether with an answer."""
        self._events.message(
            MessageKind.DIRECT,
            DeliveryStage.DELIVER,
            call.message,
            sender=call.sender,
            receiver=call.recipient,
            about=call,
        )
        try:
            result = await self._handled(call, call.message, call)
            if not call.yielded and (self._interventions or self._loopback is not None or self._events.enabled):
                result = await self._on_its_way_back(call, result)
        except BaseException as error:
            with lines_about(call):
                self._fail_call(call, error)
            return False
        if self.dispatcher.has_queued:
            # What the handler sent and published starts before its caller goes on, as it was sent before the answer.
            asyncio.get_running_loop().call_soon(call.answer, result)
        else:
            call.answer(result)
        return True

    async def _on_its_way_back(self, call: Call, answer: Any) -> Any:
        """Return what becomes of an answer, or of a chunk of one, until it is at the caller."""
        if self._interventions:
            answer = await self._interventions.on_response(answer, sender=call.recipient, recipient=call.sender)
        if self._loopback is not None:
            answer = self._loopback.copy(answer)
        for stage in (DeliveryStage.SEND, DeliveryStage.DELIVER):
            self._events.message(
                MessageKind.RESPOND, stage, answer, sender=call.recipient, receiver=call.sender, about=call
            )
        return answer

    async def _read(self, turn: Turn, chunks: AsyncIterator[Any]) -> list[Any]:
        """Take what a handler yields until it ends or nobody wants more. Return what is not for the reader of a stream,
        nor an event's, which nobody reads."""
        turn.yielded = True
        answer: list[Any] = []
        count = 0
        try:
            async for chunk in chunks:
                if isinstance(turn, Call) and not turn.withdrawn:
                    passed = await self._on_its_way_back(turn, chunk)
                    if isinstance(turn, StreamCall):
                        await turn.push(passed)
                    else:
                        answer.append(passed)
                count += 1
                if count % _CHUNKS_AT_ONCE == 0:
                    # A handler that never awaits must not keep its own deadline from coming.
                    await asyncio.sleep(0)
                if turn.withdrawn:
                    # So that what the generator does at its end sees that it is to end.
                    turn.token._noticed = True
                    turn.abandon()
                    break
        finally:
            await close_stream(chunks)
        return answer

    def _fail_call(self, call: Call, error: BaseException) -> None:
        if call.started and call.future.done() and not isinstance(error, asyncio.CancelledError):
            _logger.error("The caller had gone when %s failed", call, exc_info=error)
        if not isinstance(error, MessageDroppedException | RuntimeStateError):
            self._events.handler_failed(call.message, call.recipient, error)
        call.refuse(error)

    async def _deliver_traced(self, publication: Publication, turns: list[EventTurn]) -> None:
        destination = self._tracer.destination_of(publication.topic_id)
        with self._tracer.span("publish", destination, parent=publication.headers):
            running = {self.dispatcher.spawn(self._deliver_event(turn), turn): turn for turn in turns}
            while running := {task: turn for task, turn in running.items() if not turn.finished}:
                # Not only for their tasks: one that was left behind goes on as long as it likes.
                await asyncio.wait(running, timeout=grace.GRACE_S)

    async def _deliver_event(self, turn: EventTurn) -> None:
        publication = turn.publication
        self._events.message(
            MessageKind.PUBLISH,
            DeliveryStage.DELIVER,
            publication.message,
            sender=publication.sender,
            receiver=None,
            about=turn,
        )
        publication.link(turn)
        try:
            await self._handled(turn, publication.message, publication)
        except BaseException as error:
            with lines_about(turn):
                self._fail_event(turn, error)
        finally:
            publication.unlink(turn)

    def _fail_event(self, turn: EventTurn, error: BaseException) -> None:
        if isinstance(error, RuntimeStateError) and not turn.started:
            turn.refuse(error)
            return
        self._events.handler_failed(turn.publication.message, turn.recipient, error)
        if isinstance(error, asyncio.CancelledError):
            # How a handler that watches its token ends, and no mistake of anybody's.
            _logger.info("Cancelled while it was handled: %s", turn)
            return
        _logger.error("Error processing publish message for %s", turn.recipient, exc_info=error)
        if not self._ignore_event_errors:
            self.dispatcher.fail(error)

    async def _handled(self, turn: Call | EventTurn, message: Any, source: Call | Publication) -> Any:
        """Give a turn to its agent and return what the handler returns."""
        agent = self._catalog.live(turn.recipient)
        if agent is None:
            with lines_about(turn):
                agent = await self._catalog.activate(turn.recipient)
        serial = self._is_serial(agent)
        if serial:
            await self._mailboxes.enter(turn)
        try:
            if serial:
                # The turn before may have let this one in by failing the runtime.
                self.dispatcher.check_failure()
            if turn.withdrawn:
                return None
            if source.encoded is not None and self._loopback is not None:
                message = self._loopback.decode(source.encoded, type(agent))
            context = turn.context()
            turn.started = True
            agent_token = current_agent_id.set(turn.recipient)
            work_token = current_work.set(turn)
            try:
                if self._tracer.enabled:
                    return await self._traced(agent, turn, message, context)
                answer = await agent.on_message(message, context)
                return await self._read(turn, answer) if is_stream_class(type(answer)) else answer
            finally:
                current_work.reset(work_token)
                current_agent_id.reset(agent_token)
        finally:
            if serial:
                self._mailboxes.leave(turn)

    async def _traced(self, agent: Agent, turn: Turn, message: Any, context: MessageContext) -> Any:
        attributes = self._attributes(agent, turn, message, context)
        with self._tracer.span("process", self._tracer.destination_of(turn.recipient), attributes=attributes):
            answer = await agent.on_message(message, context)
            return await self._read(turn, answer) if is_stream_class(type(answer)) else answer

    def _attributes(self, agent: Agent, turn: Turn, message: Any, context: MessageContext) -> dict[str, str]:
        attributes = {
            "recipient_agent_type": turn.recipient.type,
            "recipient_agent_class": type(agent).__name__,
            "message_context": json.dumps(
                {
                    "sender": str(context.sender),
                    "topic_id": str(context.topic_id),
                    "is_rpc": context.is_rpc,
                    "message_id": context.message_id,
                }
            ),
            "message": self._events.payload(message),
        }
        if context.sender is not None:
            attributes["sender_agent_type"] = context.sender.type
            sender_class = self._catalog.agent_class(context.sender.type)
            if sender_class is not None:
                attributes["sender_agent_class"] = sender_class.__name__
        return attributes

    def _is_serial(self, agent: Agent) -> bool:
        cls = type(agent)
        serial = self._serial_classes.get(cls)
        if serial is None:
            serial = is_serial(cls, self._concurrency, default_persisting=True)
            self._serial_classes[cls] = serial
        return serial

    async def _intercept(self, work: Call | Publication) -> bool:
        """Let the intervention handlers see a message before it is delivered; return whether it still is to be."""
        try:
            if not self._tracer.enabled:
                await self._intervene(work)
            else:
                target = work.recipient if isinstance(work, Call) else work.topic_id
                with self._tracer.span("intercept", self._tracer.destination_of(target), parent=work.headers):
                    await self._intervene(work)
            if self._loopback is not None:
                work.encoded = self._loopback.encode(work.message)
        except BaseException as error:
            if isinstance(work, Call):
                work.refuse(error)
            elif not isinstance(error, MessageDroppedException):
                with lines_about(work):
                    _logger.error("An intervention handler failed for %s", work, exc_info=error)
            return False
        return True

    async def _intervene(self, work: Call | Publication) -> None:
        if isinstance(work, Call):
            work.message = await self._interventions.on_send(
                work.message, message_context=work.sent_context(), recipient=work.recipient
            )
        else:
            work.message = await self._interventions.on_publish(work.message, message_context=work.context())
