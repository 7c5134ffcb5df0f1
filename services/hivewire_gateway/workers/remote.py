"""The agents of a worker, as the runtime that stands in for it has them: each call is a request over the socket.

When the socket is gone nothing ends here by itself: what the worker still had is given up as a whole, by the one who
owns the session. Only what certainly never reached the worker is sent back, to be tried elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextvars import Context, copy_context
from typing import Any, Literal, NoReturn

from hivewire import AgentId, SerializationError
from hivewire.relay import (
    ITEM_WINDOW,
    AgentTraits,
    Answer,
    Channel,
    ChannelClosedError,
    Encoded,
    FailedAnswer,
    OutgoingRequest,
    SessionLapsedError,
    StateText,
    Turn,
    mark_final,
    passed_on_trace,
    wire,
)
from hivewire_gateway.workers.traits import read_traits

__all__ = ["RemoteAgents"]

_ENDED_TURNS = 1_000
_ABORT_WAIT_S = 12.0


class RemoteAgents:
    """The `Worker` of one session.

    `context_of` says in which context what a turn asks for is done; it outlives the turn a little, for what a handler
    left behind.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._running: dict[int, Context] = {}
        self._ended: OrderedDict[int, Context] = OrderedDict()
        self._numbers = 0

    def context_of(self, turn: object) -> Context | None:
        """Return a copy of the context of a turn; None: there is no such turn."""
        if not isinstance(turn, int):
            return None
        context = self._running.get(turn) or self._ended.get(turn)
        return None if context is None else context.copy()

    def end(self, turn: int) -> None:
        """Note that a turn has ended."""
        context = self._running.pop(turn, None)
        if context is not None:
            self._ended[turn] = context
            if len(self._ended) > _ENDED_TURNS:
                self._ended.popitem(last=False)

    async def activate(self, agent: AgentId) -> AgentTraits:
        try:
            header: dict[str, Any] = {"agent": wire.agent_value(agent)}
            trace = passed_on_trace()
            answer = await self._channel.answer_to("activate", {**header, "trace": dict(trace)} if trace else header)
        except ChannelClosedError as error:
            raise SessionLapsedError(f"{agent} was not built: {error}") from error
        return read_traits(answer.header)

    async def handle(self, turn: Turn) -> Any:
        self._numbers += 1
        number = self._numbers
        left = turn.deadline - time.monotonic()
        header: dict[str, Any] = {
            "turn": number,
            "agent": wire.agent_value(turn.agent),
            "type": turn.type_name,
            "content": turn.content_type,
            "message": turn.message_id,
            "origin": turn.origin or turn.id,
            "event": turn.sequence is not None,
            "left": None if left == math.inf else left,
            "credit": ITEM_WINDOW,
        }
        if turn.sender is not None:
            header["sender"] = wire.agent_value(turn.sender)
        if turn.topic is not None:
            header["topic"] = wire.topic_value(turn.topic)
        if turn.within is not None and turn.within.chain:
            header["chain"] = turn.within.chain
        if turn.trace:
            header["trace"] = dict(turn.trace)
        if turn.attempt > 1:
            header["attempt"] = turn.attempt
        self._running[number] = copy_context()
        try:
            request = await self._channel.ask("message", header, turn.payload)
        except BaseException as error:
            self.end(number)
            if isinstance(error, ChannelClosedError):
                raise SessionLapsedError(turn.id) from error
            raise
        return await _Handling(self, turn, number, request).answer()

    async def operate(
        self, agent: AgentId, operation: Literal["message", "metadata", "save_state", "load_state"], payload: bytes
    ) -> Encoded | None:
        answer = await self._asked("operate", {"agent": wire.agent_value(agent), "operation": operation}, payload)
        return value_of(answer)

    async def save_state(self, agent: AgentId) -> StateText:
        answer = await self._asked("save_state", {"agent": wire.agent_value(agent)})
        try:
            # What is stored must be JSON, whatever the worker sends.
            return StateText(json.dumps(json.loads(answer.payload), separators=(",", ":")))
        except (ValueError, RecursionError) as error:
            raise SerializationError(f"The state of {agent} is not JSON: {error}") from None

    async def load_state(self, agent: AgentId, state: StateText) -> None:
        await self._asked("load_state", {"agent": wire.agent_value(agent)}, state.encode())

    async def close(self, agent: AgentId) -> None:
        try:
            await self._channel.answer_to("close", {"agent": wire.agent_value(agent)})
        except ChannelClosedError:
            pass

    async def lost(self) -> NoReturn:
        """Wait to be cancelled, with the whole session: only then may others take over."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def _asked(self, op: str, header: dict[str, Any], payload: bytes = b"") -> Answer:
        try:
            return await self._channel.answer_to(op, header, payload)
        except ChannelClosedError:
            await self.lost()


class _Handling:
    """One message that the worker handles."""

    def __init__(self, agents: RemoteAgents, turn: Turn, number: int, request: OutgoingRequest) -> None:
        self._agents = agents
        self._turn = turn
        self._number = number
        self._request = request
        self._give_up_at: float | None = None
        turn.token._link(self, self._tell_cancelled)

    async def answer(self) -> Any:
        first = None
        try:
            first = await self.next()
            if first is None and "streamed" not in self._request.answer.result().header:
                return self._outcome()
        finally:
            if first is None:
                self.end()
        return _Chunks(self, first)

    async def next(self) -> Answer | None:
        """Return the next chunk; None: there are no more, and there is an answer. To cancel this is to cancel the
        handler, and what it makes of it is still waited for."""
        while True:
            try:
                async with asyncio.timeout_at(self._give_up_at):
                    item = await self._request.next_item()
            except TimeoutError:
                raise asyncio.CancelledError(
                    f"The handler of {self._turn.agent} goes on after it was cancelled"
                ) from None
            except asyncio.CancelledError:
                if self._request.answer.done() or self._give_up_at is not None:
                    raise
                self._request.cancel("abort")
                self._give_up_at = asyncio.get_running_loop().time() + _ABORT_WAIT_S
                continue
            if item is None and self._request.answer.result().lost is not None:
                await self._agents.lost()
            return item

    def check(self) -> None:
        """Raise the error that the handler ended with, if it did."""
        answer = self._request.answer.result()
        error = answer.error
        if error is None:
            return
        if answer.header.get("final"):
            mark_final(error)
        raise error

    def end(self) -> None:
        self._turn.token._unlink(self)
        self._agents.end(self._number)

    async def close(self) -> None:
        """Tell the handler that nobody reads on, and wait for its end."""
        self._request.cancel("close")
        while await self.next() is not None:
            pass

    def _outcome(self) -> Any:
        answer = self._request.answer.result()
        error = answer.error
        if error is not None and answer.header.get("handled"):
            return FailedAnswer(error)
        self.check()
        return value_of(answer)

    def _tell_cancelled(self) -> None:
        self._request.cancel("deadline" if time.monotonic() >= self._turn.deadline else "cancel")


class _Chunks(AsyncIterator[Any]):
    """What a handler yields."""

    def __init__(self, handling: _Handling, first: Answer | None) -> None:
        self._handling = handling
        self._first = first
        self._ended = False

    async def __anext__(self) -> Any:
        chunk, self._first = self._first, None
        if chunk is None and not self._ended:
            chunk = await self._handling.next()
        if chunk is None:
            self._ended = True
            self._handling.end()
            self._handling.check()
            raise StopAsyncIteration
        return value_of(chunk)

    async def aclose(self) -> None:
        if not self._ended:
            self._ended = True
            try:
                await self._handling.close()
            finally:
                self._handling.end()


def value_of(answer: Answer) -> Encoded | None:
    """Return the value of an answer or an item."""
    if answer.header.get("none"):
        return None
    return wire.encoded_of(answer.header, answer.payload)
