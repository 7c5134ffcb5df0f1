"""Direct messages as their caller sees them: one request, exactly one outcome.

A request that nobody took is sent again: no responder, an owner that is just moving, or one without room all say that
the call was not executed. Once somebody may have taken it, it is never sent again; then there is a reply, a deadline,
or silence. A worker gives signs of life while a call takes long, so silence means that the worker, or the reply, is
lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass

from nats.aio.msg import Msg

from hivewire.exceptions import (
    AgentNotFoundError,
    BrokerUnavailableError,
    DeadlineExceededError,
    OverloadedError,
    SerializationError,
    UnsupportedFormatError,
    WorkerLostError,
)
from hivewire.model.cancellation import CancellationToken
from hivewire.model.ids import AgentId
from hivewire.nats.broker import NO_RESPONDERS, Broker, Waiter, is_status
from hivewire.nats.envelope import CallEnvelope, EnvelopeError, ReplyEnvelope, decode_reply, encode_call
from hivewire.nats.registry import Registry
from hivewire.nats.subjects import Subjects

log = logging.getLogger("hivewire.calls")

UNKNOWN_TYPE_WAIT_S = 2.0
"""How long a type that nobody registered is waited for: processes start in any order."""

SILENCE_TICKS = 7
"""After so many seconds without a reply or a sign of life, a worker counts as lost."""

_DISCONNECTED = "disconnected"
_FIRST_PAUSE_S = 0.005
_LAST_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class _NotExecuted:
    why: str


class _Attempt(Waiter):
    """One request that is under way."""

    __slots__ = ("future", "interrupted", "silent_ticks", "started")

    def __init__(self, subject: str, future: asyncio.Future[ReplyEnvelope | _NotExecuted]) -> None:
        super().__init__(subject, self._on_message, self._on_error)
        self.future = future
        self.silent_ticks = 0
        self.started = False
        self.interrupted = False

    def _on_message(self, message: Msg) -> None:
        if self.future.done():
            return
        if is_status(message, NO_RESPONDERS):
            self.future.set_result(_NotExecuted("no responders"))
            return
        try:
            reply = decode_reply(message.headers, message.data)
        except (EnvelopeError, UnsupportedFormatError) as error:
            self.future.set_exception(SerializationError(f"The reply to {self.subject} can't be read: {error}"))
            return
        if reply.status == "alive":
            self.silent_ticks = 0
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

    def __init__(self, broker: Broker, subjects: Subjects, registry: Registry, *, delivery_timeout: float) -> None:
        self._broker = broker
        self._subjects = subjects
        self._registry = registry
        self._delivery_timeout = delivery_timeout
        self._open: dict[str, _Attempt] = {}
        self._closed: Exception | None = None
        broker.on_disconnect.append(self._on_disconnect)

    def __len__(self) -> int:
        return len(self._open)

    async def call(
        self,
        recipient: AgentId,
        envelope: CallEnvelope,
        *,
        timeout: float,
        cancellation_token: CancellationToken | None = None,
    ) -> ReplyEnvelope:
        """Send a request and return the reply, a value or an error, within `timeout` seconds.

        Raises:
            AgentNotFoundError: nobody registered the type, or has the instance.
            DeadlineExceededError: `timeout`, or the delivery timeout, passed.
            WorkerLostError: the worker fell silent; whether it handled the call is unknown.
            BrokerUnavailableError: no connection, or it broke and nothing was heard since.
            OverloadedError: the worker had no room until the deadline.
            MessageTooLargeError, AccessDeniedError: the broker does not take the message.
            asyncio.CancelledError: the token or the task was cancelled; the handler's token is cancelled too.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        deadline = begun + timeout
        headers, payload = encode_call(envelope)
        subject = self._subjects.rpc(recipient.type, recipient.key)
        call_id = self._broker.new_token()
        pause = _FIRST_PAUSE_S
        while True:
            if self._closed is not None:
                raise self._closed
            if cancellation_token is not None and cancellation_token.is_cancelled:
                raise asyncio.CancelledError("The token was cancelled before anybody took the message")
            now = loop.time()
            if not self._broker.connected.is_set():
                await self._broker.wait_connected(min(deadline, now + self._delivery_timeout))
                now = loop.time()
            headers["Hw-Left"] = str(max(int((deadline - now) * 1000), 1))
            outcome = await self._attempt(call_id, subject, payload, headers, deadline, timeout, cancellation_token)
            if isinstance(outcome, ReplyEnvelope):
                return outcome
            waited = loop.time() - begun
            self._give_up_if_hopeless(recipient, outcome.why, waited, waited + pause >= timeout)
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
        timeout: float,
        cancellation_token: CancellationToken | None,
    ) -> ReplyEnvelope | _NotExecuted:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ReplyEnvelope | _NotExecuted] = loop.create_future()
        attempt = _Attempt(subject, future)
        timer = loop.call_at(deadline, _expire, attempt, timeout)
        if cancellation_token is not None:
            cancellation_token.link_future(future)
        self._open[call_id] = attempt
        try:
            reply = self._broker.listen(call_id, attempt)
            try:
                await self._broker.publish(subject, payload, reply=reply, headers=headers)
            except BrokerUnavailableError:
                # It broke a moment ago, and `connected` does not say so yet.
                return _NotExecuted(_DISCONNECTED)
            return await future
        except (asyncio.CancelledError, DeadlineExceededError):
            await self._tell_cancelled(call_id)
            raise
        finally:
            timer.cancel()
            del self._open[call_id]
            self._broker.forget(call_id)

    async def _tell_cancelled(self, call_id: str) -> None:
        try:
            await self._broker.publish(self._subjects.cancel(call_id), b"")
        except BrokerUnavailableError as error:
            log.debug("the worker of call %s is not told that it is cancelled: %s", call_id, error)

    def _give_up_if_hopeless(self, recipient: AgentId, why: str, waited: float, at_deadline: bool) -> None:
        if why == "overloaded":
            if at_deadline:
                raise OverloadedError(
                    f"The worker of {recipient} had no room until the deadline; the call did not start"
                )
            return
        if why == _DISCONNECTED:
            if at_deadline:
                raise BrokerUnavailableError(f"The connection to NATS broke; the call to {recipient} did not start")
            return
        record = self._registry.get(recipient.type)
        shape = record.shape if record is not None else None
        if shape is None or shape.kind == "instances":
            if waited >= UNKNOWN_TYPE_WAIT_S or at_deadline:
                what = "no process has registered this agent type" if shape is None else "no process has this instance"
                raise AgentNotFoundError(f"Recipient not found: {recipient}: {what}")
            return
        if waited >= self._delivery_timeout or at_deadline:
            which = "delivery_timeout" if waited >= self._delivery_timeout else "timeout"
            raise DeadlineExceededError(
                f"No process took the message to {recipient} within {waited:.1f} s ({which}); the call did not start: "
                f"check that a process that serves {recipient.type!r} runs"
            )

    def _on_disconnect(self) -> None:
        for attempt in self._open.values():
            attempt.interrupted = True


def _expire(attempt: _Attempt, timeout: float) -> None:
    if not attempt.future.done():
        known = "it had started" if attempt.started else "whether it had started is unknown"
        attempt.future.set_exception(
            DeadlineExceededError(
                f"The call to {attempt.subject} took longer than its timeout of {timeout:g} s; {known}"
            )
        )


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
