"""Hands messages to the agents' own code, and sees that none takes for ever."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from hivewire.exceptions import CantHandleException, DeadlineExceededError, SerializationError
from hivewire.logging import EVENT_LOGGER_NAME, DeliveryStage, MessageEvent, MessageKind, lines_about
from hivewire.model import grace
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext, MessageHandlerContext, NestedCalls, TurnContext, enter_turn
from hivewire.model.runtime import Agent
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.state_values import decode_state, encode_state
from hivewire.model.streams import close_stream, is_stream
from hivewire.nats.turn import Streamed, Turn
from hivewire.telemetry import RuntimeMetrics

log = logging.getLogger("hivewire.turns")
_event_log = logging.getLogger(EVENT_LOGGER_NAME)

_CHUNKS_AT_ONCE = 64


class Handling:
    """Runs the handlers of one process's agents."""

    def __init__(self, serializers: SerializerRegistry, metrics: RuntimeMetrics, *, record_payloads: bool) -> None:
        self._serializers = serializers
        self._metrics = metrics
        self._record_payloads = record_payloads
        self._running: set[Turn] = set()
        self._apart: set[asyncio.Task[Any]] = set()

    async def handle(
        self, turn: Turn, agent: Agent, *, nested: NestedCalls | None, in_chain: bool, apart: bool = False
    ) -> Any:
        """Return what the agent answers to a message or an operation. With `in_chain` the calls of its handler name
        this turn as one that caused them. A handler that runs `apart` is left behind when it goes on for the grace
        time after it was cancelled: others wait for the end of this turn.

        Raises:
            DeadlineExceededError: it took longer than its limit, and was cancelled.
            asyncio.CancelledError: the same after its message was cancelled, or the handler raised it.
            SerializationError: the message can't be decoded.
            BaseException: what the handler raised.
        """
        # One look at all turns now and then costs less than a timer for each.
        if turn.sequence is not None:
            turn.limit = time.monotonic() + turn.time_limit_s
        else:
            turn.limit = turn.deadline + grace.GRACE_S
        # An earlier attempt may have been.
        turn.overdue, turn.cancelled = 0, False
        self._running.add(turn)
        begun = time.monotonic()
        try:
            if apart:
                return await self._handle_apart(turn, agent, nested, in_chain)
            turn.task = asyncio.current_task()
            return await self._handle(turn, agent, nested, in_chain)
        except asyncio.CancelledError as error:
            if not turn.overdue or turn.task is None or _is_cancelled_by_others(turn.task, turn.overdue):
                raise
            if turn.cancelled:
                raise asyncio.CancelledError(f"The message to {turn.agent} was cancelled") from error
            raise DeadlineExceededError(f"The turn of {turn.agent} took longer than its limit") from error
        finally:
            if turn.operation == "message":
                self._metrics.of_type(turn.agent.type).duration.observe(time.monotonic() - begun)
            self._running.discard(turn)
            turn.task = turn.left = None
            if turn.overdue and turn.sequence is not None:
                # The next attempt is a fresh one.
                turn.token = CancellationToken()

    def cancel_overdue(self) -> None:
        """Cancel the tokens of turns whose deadline has passed, and turns that go on for too long after that; to be
        called several times a second."""
        now = time.monotonic()
        for turn in list(self._running):
            if now >= turn.deadline and not turn.token._cancelled:
                turn.end_by(turn.limit)
                turn.token.cancel()
            elif turn.token._cancelled and not turn.cancelled and turn.sequence is None and now < turn.deadline:
                turn.cancelled = True
                turn.end_by(min(turn.limit, now + grace.GRACE_S))
            if now >= turn.limit and turn.task is not None:
                with lines_about(turn):
                    self._cancel(turn, turn.task, now)

    def _cancel(self, turn: Turn, task: asyncio.Task[Any], now: float) -> None:
        if turn.overdue:
            log.error("the turn of %s goes on after it was cancelled", turn.agent)
            if turn.left is not None and not turn.left.done():
                turn.left.set_result(None)
        elif turn.cancelled:
            log.error(
                "the turn of %s goes on %g s after its message was cancelled, and is cancelled",
                turn.agent,
                grace.GRACE_S,
            )
        else:
            log.error("the turn of %s took longer than its limit and is cancelled", turn.agent)
        turn.overdue += 1
        turn.end_by(now + grace.GRACE_S)
        turn.token.cancel()
        turn.token._noticed = True
        task.cancel()

    async def _handle_apart(self, turn: Turn, agent: Agent, nested: NestedCalls | None, in_chain: bool) -> Any:
        task = turn.task = asyncio.create_task(
            self._handle(turn, agent, nested, in_chain), name=f"turn of {turn.agent}"
        )
        left = turn.left = asyncio.get_running_loop().create_future()
        self._apart.add(task)
        task.add_done_callback(self._apart.discard)
        try:
            await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,), timeout=grace.GRACE_S)
            raise
        if task.done():
            return task.result()
        # Whatever it does from now on, nobody waits for it, and nothing of it is stored.
        raise asyncio.CancelledError

    async def _handle(self, turn: Turn, agent: Agent, nested: NestedCalls | None, in_chain: bool) -> Any:
        if turn.operation != "message":
            return await self._operate(turn, agent)
        try:
            message = self._serializers.decode(
                turn.payload,
                type_name=turn.type_name,
                content_type=turn.content_type,
                preferred=self._serializers.handled_types(type(agent)),
            )
        except SerializationError as error:
            error.message_to = str(turn.agent)
            raise
        context = MessageContext(
            sender=turn.sender,
            topic_id=turn.topic,
            is_rpc=turn.topic is None,
            cancellation_token=turn.token,
            message_id=turn.message_id,
        )
        if _event_log.isEnabledFor(logging.INFO):
            self._report_delivery(turn)
        chain = (*turn.chain, turn.id) if in_chain else turn.chain
        deadline = turn.limit if turn.sequence is not None else turn.deadline
        within = TurnContext(turn.id, chain, turn.origin or turn.id, nested, deadline=deadline, token=turn.token)
        turn.within = within
        with MessageHandlerContext.populate_context(turn.agent), enter_turn(within):
            try:
                return await self._answer(turn, agent, message, context, nested)
            finally:
                within.ended = True

    async def _answer(
        self, turn: Turn, agent: Agent, message: Any, context: MessageContext, nested: NestedCalls | None
    ) -> Any:
        answer = await self._ask(turn, agent, message, context)
        if not is_stream(answer):
            return answer
        count = 0
        yielded = self._metrics.of_type(turn.agent.type).chunks
        try:
            async for chunk in answer:
                count += 1
                yielded.inc()
                if turn.emit is not None:
                    await turn.emit(chunk, nested)
                elif count % _CHUNKS_AT_ONCE == 0:
                    # A handler that never awaits must not keep others from their turns.
                    await asyncio.sleep(0)
        finally:
            await close_stream(answer)
        return Streamed(count)

    async def _ask(self, turn: Turn, agent: Agent, message: Any, context: MessageContext) -> Any:
        return await agent.on_message(message, ctx=context)

    async def _operate(self, turn: Turn, agent: Agent) -> Any:
        match turn.operation:
            case "metadata":
                return dict(agent.metadata)
            case "save_state":
                # As JSON, so that it may hold whatever the serializers of its process know.
                return json.loads(encode_state(await agent.save_state(), self._serializers))
            case "load_state":
                await agent.load_state(decode_state(turn.payload.decode(), self._serializers))
                return None
            case other:
                raise CantHandleException(f"{turn.agent} knows no operation {other!r}")

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


def _is_cancelled_by_others(task: asyncio.Task[Any], own: int) -> bool:
    """Take back the cancellations of a task that were this module's own, and tell whether there were others."""
    others = task.cancelling()
    for _ in range(own):
        others = task.uncancel()
    return others > 0
