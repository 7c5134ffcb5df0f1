"""Streamed answers on their way from their worker into the broker, where readers find them.

Nobody waits for a reader here, but for the broker: a few chunks are on their way to it at once, and each is sent again
until it is stored. One that can't be stored in time ends the stream with an error.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from nats.aio.msg import Msg

from hivewire.exceptions import BrokerUnavailableError, HivewireError, UndeliverableException
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import NestedCalls
from hivewire.nats.broker import NO_RESPONDERS, Broker, Waiter, is_status
from hivewire.nats.chunk_order import AT_ONCE
from hivewire.nats.envelope import ReplyEnvelope, encode_reply
from hivewire.nats.outbox import Outbox
from hivewire.nats.stream_pulse import answer_for
from hivewire.nats.subscription import BrokerSubscription

AT_ONCE_BYTES: Final = 512 * 1024
"""A chunk may be sent while less is on its way; so one larger chunk always can be."""

_AGAIN_S = 2.0
_REFUSED_AGAIN_S = 0.5


@dataclass(slots=True, eq=False)
class _Record:
    token: str
    headers: dict[str, str]
    payload: bytes
    reply: str
    give_up_at: float
    again_at: float


class KeptChunks:
    """Stores the chunks of one answer under the id of its call, and then tells the caller that this is done.

    Args:
        subject: Where they are stored.
        reply: Where the caller listens.
        store_timeout: How many seconds a chunk may take to be stored.
    """

    def __init__(self, broker: Broker, outbox: Outbox, subject: str, reply: str, *, store_timeout: float) -> None:
        self._broker = broker
        self._outbox = outbox
        self._subject = subject
        self._reply = reply
        self._store_timeout = store_timeout
        self._number = 0
        self._under_way: dict[int, _Record] = {}
        self._bytes = 0
        self._changed: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._lost: int | None = None
        self._why = "nobody answered"
        self._reconnects = broker.reconnects
        self._pulse: BrokerSubscription | None = None

    async def open(self, pulse_subject: str) -> None:
        """Be there for readers who ask whether the handler runs."""
        self._pulse = await answer_for(self._broker, pulse_subject, "running")
        # Before the handler runs, which may block the event loop.
        await self._broker.flush()

    async def send(self, chunk: ReplyEnvelope, token: CancellationToken, nested: NestedCalls | None) -> None:
        """Send a chunk once there is room for it. A turn gives up its slot while it waits for that.

        Raises:
            MessageTooLargeError, AccessDeniedError: the broker does not take it.
            UndeliverableException: the broker has no room to store what came before, for long.
            BrokerUnavailableError: the same, as there is no connection.
            asyncio.CancelledError: the token was cancelled.
        """
        if not self._has_room():
            if nested is not None:
                nested.step_out()
            try:
                await self._until(lambda: self._has_room() or self._failure is not None, token)
            finally:
                if nested is not None:
                    await nested.step_in()
        if token.is_cancelled:
            raise asyncio.CancelledError("The stream was cancelled")
        await self._send(chunk)

    async def finish(self, outcome: ReplyEnvelope) -> None:
        """Store the end of the stream, or the error that ends it, after all chunks, and tell the caller of it.

        Raises:
            as `send`.
        """
        await self._until(lambda: not self._under_way)
        if self._lost is not None:
            # What came after a chunk that may be lost counts for nothing.
            self._number, self._lost, self._failure = self._lost - 1, None, None
        await self._send(outcome)
        await self._until(lambda: not self._under_way)
        if self._failure is not None:
            raise self._failure
        outcome.number = None
        headers, payload = encode_reply(outcome)
        self._outbox.post(self._reply, payload, headers=headers)

    def tick(self) -> bool:
        """Send again what was not acknowledged in time; to be called every second or so. False: it is closed."""
        now = time.monotonic()
        broken, self._reconnects = self._broker.reconnects != self._reconnects, self._broker.reconnects
        for number, record in list(self._under_way.items()):
            if now >= record.give_up_at:
                self._fail(number, self._given_up())
            elif (broken or now >= record.again_at) and self._broker.connected.is_set():
                record.again_at = now + _AGAIN_S
                self._outbox.post(self._subject, record.payload, reply=record.reply, headers=record.headers)
        return self._pulse is not None

    async def close(self) -> None:
        """Store nothing more, and be there for nobody."""
        for record in self._under_way.values():
            self._broker.forget(record.token)
        self._under_way.clear()
        pulse, self._pulse = self._pulse, None
        if pulse is not None:
            await pulse.unsubscribe()

    def _has_room(self) -> bool:
        if not self._under_way:
            return True
        # Not how many: the order of readers depends on how far the oldest one is behind.
        behind = self._number + 1 - next(iter(self._under_way))
        return behind < AT_ONCE and self._bytes < AT_ONCE_BYTES

    async def _send(self, envelope: ReplyEnvelope) -> None:
        if self._failure is not None:
            raise self._failure
        number = envelope.number = self._number + 1
        headers, payload = encode_reply(envelope)
        self._broker.check_size(self._subject, payload, headers, reserve=0)
        self._number = number
        token = self._broker.new_token()
        now = time.monotonic()
        waiter = Waiter(self._subject, partial(self._on_answer, number), partial(self._fail, number))
        reply = self._broker.listen(token, waiter)
        self._under_way[number] = _Record(token, headers, payload, reply, now + self._store_timeout, now + _AGAIN_S)
        self._bytes += len(payload)
        try:
            await self._broker.publish(self._subject, payload, reply=reply, headers=headers)
        except BrokerUnavailableError as error:
            self._why = str(error)
            self._under_way[number].again_at = 0.0

    async def _until(self, condition: Callable[[], bool], token: CancellationToken | None = None) -> None:
        while not condition():
            self._changed = asyncio.get_running_loop().create_future()
            if token is not None:
                token.link_future(self._changed)
            await self._changed

    def _on_answer(self, number: int, message: Msg) -> None:
        record = self._under_way.get(number)
        if record is None:
            return
        if is_status(message, NO_RESPONDERS):
            self._why = "no stream leader answers"
        elif b'"error"' in message.data:
            error = json.loads(message.data)["error"]
            self._why = f"{error.get('description')} (JetStream error {error.get('err_code')})"
        else:
            self._settle(number)
            return
        record.again_at = time.monotonic() + _REFUSED_AGAIN_S

    def _fail(self, number: int, error: Exception) -> None:
        self._failure = self._failure or error
        self._lost = number if self._lost is None else min(number, self._lost)
        self._settle(number)

    def _settle(self, number: int) -> None:
        record = self._under_way.pop(number, None)
        if record is not None:
            self._bytes -= len(record.payload)
            self._broker.forget(record.token)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _given_up(self) -> HivewireError:
        what = f"A chunk of the stream {self._subject} was not stored within {self._store_timeout:g} s"
        if self._broker.connected.is_set():
            return UndeliverableException(f"{what}: {self._why}")
        return BrokerUnavailableError(f"{what}: {self._broker.trouble}")
