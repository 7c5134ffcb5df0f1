"""Direct messages as their caller sees them: one request, exactly one outcome.

A request that nobody took is sent again: no responder, an owner that is just moving, or one without room all say that
the call was not executed. Once somebody may have taken it, it is never sent again; then there is a reply, a deadline,
or silence. A worker gives signs of life while a call takes long, so silence means that the worker, or the reply, is
lost.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from nats.aio.msg import Msg

from hivewire.exceptions import (
    AgentNotFoundError,
    BrokerUnavailableError,
    DeadlineExceededError,
    OverloadedError,
    SerializationError,
    UndeliverableException,
    UnsupportedFormatError,
    WorkerLostError,
)
from hivewire.model.call_limit import CallLimit
from hivewire.model.cancellation import call_on
from hivewire.model.contexts import TurnContext
from hivewire.model.ids import AgentId
from hivewire.nats.broker import NO_RESPONDERS, Broker, Waiter, is_status
from hivewire.nats.chunk_inlet import ChunkInlet
from hivewire.nats.envelope import (
    EXPIRED,
    CallEnvelope,
    EnvelopeError,
    ReplyEnvelope,
    call_id_of,
    decode_reply,
    encode_call,
    is_sign_of_life,
)
from hivewire.nats.outbox import Outbox
from hivewire.nats.registry import Registry
from hivewire.nats.subjects import Subjects
from hivewire.nats.wakes import Wakes

UNKNOWN_TYPE_WAIT_S = 2.0
"""How long a type that nobody registered is waited for: processes start in any order."""

SILENCE_TICKS = 7
"""After so many seconds without a reply or a sign of life, a worker counts as lost."""

UndeliverableT = TypeVar("UndeliverableT", bound=UndeliverableException)

_DISCONNECTED = "disconnected"
_NO_RESPONDERS = "no responders"
_FIRST_PAUSE_S = 0.005
_LAST_PAUSE_S = 0.25
_GIVEN_UP = 10_000
_WAKE_AFTER_S = 0.1  # the owner of a shard that just moves is there by then


@dataclass(frozen=True, slots=True)
class _NotExecuted:
    why: str


class _Attempt(Waiter):
    """One request that is under way."""

    __slots__ = ("_new_inlet", "_on_start", "future", "inlet", "interrupted", "silent_ticks", "started")

    def __init__(
        self,
        subject: str,
        future: asyncio.Future[ReplyEnvelope | _NotExecuted],
        inlet: ChunkInlet | None,
        new_inlet: Callable[[], ChunkInlet],
        on_start: Callable[[], object] | None,
    ) -> None:
        super().__init__(subject, self._on_message, self._on_error)
        self.future = future
        self.inlet = inlet
        self._new_inlet = new_inlet
        self._on_start = on_start
        self.silent_ticks = 0
        self.started = False
        self.interrupted = False

    def _on_message(self, message: Msg) -> None:
        if self.future.done():
            return
        if is_status(message, NO_RESPONDERS):
            self.future.set_result(_NotExecuted(_NO_RESPONDERS))
            return
        try:
            reply = decode_reply(message.headers, message.data)
        except (EnvelopeError, UnsupportedFormatError) as error:
            self.future.set_exception(SerializationError(f"The reply to {self.subject} can't be read: {error}"))
            return
        if reply.number is not None:
            self.silent_ticks = 0
            self.started = True
            if self.inlet is None:
                self.inlet = self._new_inlet()
            outcome = self.inlet.arrive(reply, message.reply)
            if outcome is not None:
                self.future.set_result(outcome)
        elif reply.status == "alive":
            self.silent_ticks = 0
            if not self.started and self._on_start is not None:
                self._on_start()
            self.started = True
        elif reply.status in ("moved", "overloaded"):
            self.future.set_result(_NotExecuted(reply.status))
        else:
            self.future.set_result(reply)

    def _on_error(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Calls:
    """The open calls of one process.

    Args:
        delivery_timeout: Seconds that a registered type, whose owner does not take the call, is tried again.
    """

    def __init__(
        self, broker: Broker, outbox: Outbox, subjects: Subjects, registry: Registry, *, delivery_timeout: float
    ) -> None:
        self._broker = broker
        self._outbox = outbox
        self._subjects = subjects
        self._registry = registry
        self._delivery_timeout = delivery_timeout
        self._wakes = Wakes(broker, subjects)
        self._open: dict[str, _Attempt] = {}
        self._given_up: OrderedDict[str, bytes] = OrderedDict()
        self._closed: Exception | None = None
        broker.on_stray = self._on_stray
        broker.on_disconnect.append(self._on_disconnect)
        broker.on_reconnect.append(self._on_reconnect)

    def __len__(self) -> int:
        return len(self._open)

    async def call(
        self,
        recipient: AgentId,
        envelope: CallEnvelope,
        *,
        limit: CallLimit,
        inlet: ChunkInlet | None = None,
        call_id: str | None = None,
        on_start: Callable[[], object] | None = None,
    ) -> tuple[ReplyEnvelope, ChunkInlet | None]:
        """Send a request and return its outcome, within its limit. The chunks of a streamed answer are in the inlet
        that is given, or else in a new one, which is returned; those of one that is kept are not. `on_start` is called
        with the first sign of life.

        Raises:
            AgentNotFoundError: nobody registered the type, or has the instance.
            DeadlineExceededError: the limit, or the delivery timeout, passed.
            WorkerLostError: the worker fell silent; whether it handled the call is unknown.
            BrokerUnavailableError: no connection, or it broke and nothing was heard since.
            OverloadedError: the worker had no room until the deadline.
            MessageTooLargeError, AccessDeniedError: the broker does not take the message.
            asyncio.CancelledError: a token or the task was cancelled.

        Whatever error it ends with, a handler that has started is cancelled, be it when the connection is back. Only
        one whose answer is kept goes on when its worker can't be heard, or when this process ends.
        """
        if limit.seconds <= 0:
            limit.pass_by()
            raise _not_handled(
                DeadlineExceededError(f"The call to {recipient} was not sent: nothing is left of {limit}")
            )
        loop = asyncio.get_running_loop()
        begun = loop.time()
        deadline = begun + limit.seconds
        headers, payload = encode_call(envelope)
        subject = self._subjects.rpc(recipient.type, recipient.key)
        call_id = call_id or self._broker.new_token()
        pause = _FIRST_PAUSE_S
        while True:
            if self._closed is not None:
                raise self._closed
            if limit.is_cancelled:
                raise asyncio.CancelledError("The token was cancelled before anybody took the message")
            now = loop.time()
            if not self._broker.connected.is_set():
                try:
                    await self._broker.wait_connected(min(deadline, now + self._delivery_timeout))
                except BrokerUnavailableError as error:
                    raise _not_handled(error) from None
                now = loop.time()
            headers["Hw-Left"] = str(max(int((deadline - now) * 1000), 1))
            outcome, chunks = await self._attempt(call_id, subject, payload, headers, deadline, limit, inlet, on_start)
            if isinstance(outcome, ReplyEnvelope):
                return outcome, chunks
            if outcome.why == _NO_RESPONDERS and loop.time() - begun >= _WAKE_AFTER_S:
                await self._wake(recipient.type)
            waited = loop.time() - begun
            self._give_up_if_hopeless(recipient, outcome.why, waited, waited + pause >= limit.seconds)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LAST_PAUSE_S)

    def tick(self) -> None:
        """To be called every second that the event loop was responsive in."""
        for attempt in list(self._open.values()):
            attempt.silent_ticks += 1
            if attempt.silent_ticks > SILENCE_TICKS and not attempt.future.done():
                attempt.future.set_exception(_lost(attempt))

    def close(self, error: Exception) -> None:
        """End every open call with an error, and every later one."""
        self._closed = error
        for attempt in list(self._open.values()):
            attempt.on_error(error)

    async def _attempt(
        self,
        call_id: str,
        subject: str,
        payload: bytes,
        headers: dict[str, str],
        deadline: float,
        limit: CallLimit,
        inlet: ChunkInlet | None,
        on_start: Callable[[], object] | None,
    ) -> tuple[ReplyEnvelope | _NotExecuted, ChunkInlet | None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ReplyEnvelope | _NotExecuted] = loop.create_future()
        attempt = _Attempt(subject, future, inlet, self._new_inlet, on_start)
        timer = loop.call_at(deadline, _expire, attempt, limit)
        if limit.token is not None:
            limit.token.link_future(future)
        if limit.turn is not None:
            limit.turn.token._link(attempt, partial(call_on, loop, partial(_end_with_turn, attempt, limit, limit.turn)))
        self._open[call_id] = attempt
        try:
            reply = self._broker.listen(call_id, attempt)
            try:
                await self._broker.publish(subject, payload, reply=reply, headers=headers)
            except BrokerUnavailableError:
                # It broke a moment ago, and `connected` does not say so yet.
                return _NotExecuted(_DISCONNECTED), None
            return await future, attempt.inlet
        except BaseException as error:
            if "Hw-Stream" not in headers or (self._closed is None and _is_given_up(error)):
                self._given_up[call_id] = EXPIRED if isinstance(error, DeadlineExceededError) else b""
                if len(self._given_up) > _GIVEN_UP:
                    self._given_up.popitem(last=False)
                await self._tell_cancelled(call_id)
            raise
        finally:
            timer.cancel()
            if limit.turn is not None:
                limit.turn.token._unlink(attempt)
            del self._open[call_id]
            self._broker.forget(call_id)

    async def _tell_cancelled(self, call_id: str) -> None:
        try:
            await self._broker.publish(self._subjects.cancel(call_id), self._given_up.get(call_id, b""))
        except BrokerUnavailableError:
            pass  # It is told when it gives its next sign of life.

    def _on_stray(self, message: Msg) -> None:
        call_id = call_id_of(message.subject)
        reason = self._given_up.get(call_id)
        if reason is not None and is_sign_of_life(message.headers):
            # Its worker was not told, as the connection of either of the two was broken.
            self._outbox.post(self._subjects.cancel(call_id), reason)

    def _give_up_if_hopeless(self, recipient: AgentId, why: str, waited: float, at_deadline: bool) -> None:
        if why == "overloaded":
            if at_deadline:
                raise _not_handled(
                    OverloadedError(f"The worker of {recipient} had no room until the deadline; the call did not start")
                )
            return
        if why == _DISCONNECTED:
            if at_deadline:
                raise _not_handled(
                    BrokerUnavailableError(f"The connection to NATS broke; the call to {recipient} did not start")
                )
            return
        record = self._registry.get(recipient.type)
        shape = record.shape if record is not None else None
        if shape is None or shape.kind == "instances":
            if waited >= UNKNOWN_TYPE_WAIT_S or at_deadline:
                what = "no process has registered this agent type" if shape is None else "no process has this instance"
                raise _not_handled(AgentNotFoundError(f"Recipient not found: {recipient}: {what}"))
            return
        # Until the deadline of the call, if a process that is to take it has been called for and is on its way.
        if at_deadline or (waited >= self._delivery_timeout and not self._wakes.is_coming(recipient.type)):
            which = "timeout" if at_deadline else "delivery_timeout"
            raise _not_handled(
                DeadlineExceededError(
                    f"No process took the message to {recipient} within {waited:.1f} s ({which}); the call did not "
                    f"start: check that a process that serves {recipient.type!r} runs"
                )
            )

    async def _wake(self, agent_type: str) -> None:
        record = self._registry.get(agent_type)
        if record is not None and record.shape is not None and record.shape.kind != "instances":
            await self._wakes.ask(agent_type)

    def _new_inlet(self) -> ChunkInlet:
        return ChunkInlet(self._outbox, collects=True)

    def _on_disconnect(self) -> None:
        for attempt in self._open.values():
            attempt.interrupted = True

    def _on_reconnect(self) -> None:
        for attempt in self._open.values():
            if attempt.inlet is not None:
                attempt.inlet.ask_again()


def _not_handled(error: UndeliverableT) -> UndeliverableT:
    error.not_handled = True
    return error


def _expire(attempt: _Attempt, limit: CallLimit) -> None:
    if not attempt.future.done():
        known = "it had started" if attempt.started else "whether it had started is unknown"
        attempt.future.set_exception(
            DeadlineExceededError(f"The call to {attempt.subject} took longer than {limit}; {known}")
        )
        limit.pass_by()


def _end_with_turn(attempt: _Attempt, limit: CallLimit, turn: TurnContext) -> None:
    turn.token._noticed = True
    if asyncio.get_running_loop().time() >= turn.deadline:
        _expire(attempt, limit)
    elif not attempt.future.done():
        attempt.future.cancel()


def _is_given_up(error: BaseException) -> bool:
    """Whether a kept stream, which goes on without the process that asked for it, is not wanted any more."""
    return isinstance(error, asyncio.CancelledError | DeadlineExceededError)


def _lost(attempt: _Attempt) -> Exception:
    if attempt.interrupted:
        return BrokerUnavailableError(
            f"The connection to NATS broke during the call to {attempt.subject}, and nothing was heard of it since; "
            "whether it was handled is unknown"
        )
    return WorkerLostError(
        f"The worker of {attempt.subject} gave no sign of life for {SILENCE_TICKS} s; whether it handled the call is "
        "unknown"
    )
